// Path: what users did next after a chosen event, or before it.

import { post } from "../core/api.js";
import { tellsApart } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { count, integer, percent, seconds } from "../core/format.js";
import { columnName, placeWords, sankeyChart, stoppedWords } from "../charts/sankey.js";
import { audienceField } from "../components/audience_field.js";
import { button, segmented } from "../components/button.js";
import { editorList } from "../components/editor_list.js";
import { check, inputField, labelled } from "../components/fields.js";
import { card, figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { empty } from "../components/state.js";
import { table } from "../components/table.js";
import { columnChoice } from "./choice.js";
import { keepUsers } from "./keep.js";
import { readStep, readValuedStep, stepEditor, writeStep, writeValuedStep } from "./step.js";
import { View, WITHIN_UNITS, WINDOW_UNITS, wholeNumber } from "./view.js";

const STEPS_MAX = 31;
const WINDOW = "7 days";
const DEPTH = "5";
const VALUES = "10";
const OCCURRENCES = [["first", "First"], ["last", "Last"]];
const WAYS = [["from", "Begin with"], ["to", "Lead to"]];
/// A column of the diagram that is narrower has no room for words.
const COLUMN_LEAST = 132;

export function mountPath(root, params, context, facts) {
  new Path(root, params, context, facts).show();
}

class Path extends View {
  path = "/v1/path";

  constructor(root, params, context, facts) {
    super(root, context);
    this.facts = facts;
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    this.way = params.has("to") ? "to" : "from";
    this.asked = { window: read("window", WINDOW), depth: read("depth", DEPTH), values: read("values", VALUES), within: read("within"), where: read("where"), occurrence: read("occurrence") === "last" ? "last" : "first", fold: params.has("fold") };
    this.given = { event: readStep(read(this.way)), steps: params.getAll("step").map(readValuedStep) };
  }

  show() {
    const { asked, facts, given } = this;
    const changed = () => this.runSoon();
    const makeStep = (step, tools) => {
      const options = (fields) => [["", "as one step"], ...fields.filter(tellsApart).map(({ name }) => [name, `by ${name}`])];
      return stepEditor(step, { facts, changed, tools, beside: { by: columnChoice({ label: "Told apart", value: step?.by, options, changed }) } });
    };
    const changeWay = (way) => {
      this.way = way;
      this.run();
    };
    const event = stepEditor(given.event, { label: "Chosen event", facts, changed });
    this.fields = {
      from: event,
      to: event,
      steps: editorList({ noun: "Step", values: given.steps, most: STEPS_MAX, make: makeStep, changed }),
      where: audienceField({ label: "Of whom", value: asked.where, onChange: this.change("where") }),
      window: spanField({ label: "Not farther than", value: asked.window, units: WINDOW_UNITS, onChange: this.change("window") }),
      within: spanField({ label: "Events of", value: asked.within, units: WITHIN_UNITS, otherwise: "any time", onChange: this.change("within") }),
      depth: inputField({ label: "Steps deep", value: asked.depth, inputmode: "numeric", class: "input input-short", onInput: this.change("depth") }),
      values: inputField({ label: "Values told apart", value: asked.values, inputmode: "numeric", class: "input input-short", onInput: this.change("values") }),
    };
    const { steps, where, window, within, depth, values } = this.fields;
    this.open(
      h("div", { class: "chosen-event" }, labelled("Paths", segmented("Paths", WAYS, this.way, changeWay)), h("div", { class: "grow" }, labelled("Chosen event", event))),
      h("div", { class: "field" }, h("span", { class: "field-label" }, "What else is looked at; an event is the chosen one if it can be, else the first of these"), steps),
      h("div", { class: "settings settings-flow" }, where, window, within, depth, values, labelled("Of several chosen events", segmented("Of several chosen events", OCCURRENCES, asked.occurrence, this.change("occurrence")))),
      check("Repeats are one step", asked.fold, this.change("fold"), "What repeats without anything in between is one step: the one nearest to the chosen event"),
    );
  }

  async question(signal) {
    const { asked, fields, way } = this;
    const [event, steps] = await Promise.all([fields.from.read(signal), fields.steps.read(signal)]);
    signal.throwIfAborted();
    const other = (key, usual) => (asked[key] === usual ? null : asked[key]);
    this.context.note({ [way]: event && writeStep(event), step: steps.map(writeValuedStep), window: other("window", WINDOW), depth: other("depth", DEPTH), values: other("values", VALUES), occurrence: other("occurrence", "first"), fold: asked.fold ? "1" : null, within: asked.within, where: asked.where });
    if (!event || steps.length === 0) return null;
    const body = { [way]: event, steps, window: asked.window, depth: wholeNumber(asked.depth, "depth", "Write how many steps paths are followed for, as 5."), values: wholeNumber(asked.values, "values", "Write how many values of a column are told apart, as 10.") };
    for (const key of ["within", "where"]) if (asked[key]) body[key] = asked[key];
    if (asked.occurrence === "last") body.occurrence = "last";
    if (asked.fold) body.fold = true;
    return body;
  }

  invitation() {
    return empty("Choose an event, and what else is looked at", "A path tells what users did next: after their first visit, say, which pages and whether a purchase.");
  }

  get isBackwards() {
    return Boolean(this.body.to);
  }

  shown() {
    const { users, links, more_links: more } = this.answer;
    const places = this.places();
    const begun = places.find((place) => place.depth === 0);
    const widest = links[0];
    const went = begun ? begun.users - begun.stopped : 0;
    this.chosen = this.sameAs(this.chosen, places);
    return [
      this.figures([
        figure("Users", integer(users), this.isBackwards ? "with the event that paths lead to" : "with the event that paths begin with"),
        begun && users > 0 && figure(this.isBackwards ? "Did something before" : "Went on", percent(went / users), count(went, "user")),
        widest && figure("Most went", integer(widest.users), `${places[widest.from].label} → ${places[widest.to].label}`),
      ]),
      users === 0
        ? empty("Nobody has the chosen event", "Look at a longer time, or at another event.")
        : links.length === 0
          ? empty(this.isBackwards ? "Nobody did anything before" : "Nobody did anything next", "None of the steps is near enough to the chosen event.")
          : [this.diagramCard(places), this.linksCard(places), this.placesCard(places), more > 0 && h("p", { class: "muted note" }, `${count(more, "link")} with fewer users ${more === 1 ? "is" : "are"} not shown.`)],
    ];
  }

  /// Places with the words for them. Of a single step that is told apart by values, the value says it.
  places() {
    const valued = this.body.steps.filter((step) => step.by);
    // Of a long name the answer has the begin.
    const isOf = (name, step) => (name.endsWith("…") ? writeStep(step).startsWith(name.slice(0, -1)) : writeStep(step) === name);
    const labelOf = ({ step: name, value, others }) => {
      const by = valued.find((step) => isOf(name, step))?.by;
      if (!by) return name;
      const said = others === undefined ? (value ?? `no ${by}`) : count(others, "other");
      return valued.length === 1 ? said : `${name}: ${said}`;
    };
    return this.answer.places.map((place) => ({ ...place, label: labelOf(place), name: JSON.stringify([place.step, place.value, place.others !== undefined]) }));
  }

  /// What was chosen, in another answer; null if it is not there.
  sameAs(chosen, places) {
    const at = (wanted) => places.findIndex((place) => place.depth === wanted.depth && place.name === wanted.name);
    if (chosen?.place) return at(chosen.place) >= 0 ? { place: places[at(chosen.place)] } : null;
    if (!chosen?.link) return null;
    const link = this.answer.links.findIndex(({ from, to }) => from === at(chosen.link.from) && to === at(chosen.link.to));
    return link >= 0 ? this.linkOf(link, places) : null;
  }

  linkOf(at, places) {
    const link = this.answer.links[at];
    return { link: { ...link, at, from: places[link.from], to: places[link.to] } };
  }

  diagramCard(places) {
    const { links } = this.answer;
    const told = h("div", { class: "cell-place" });
    const backwards = this.isBackwards;
    const indexOf = (chosen) => chosen && (chosen.place ? { place: places.indexOf(chosen.place) } : { link: chosen.link.at });
    const depth = Math.max(...places.map((place) => place.depth));
    const diagram = sankeyChart({
      label: `${backwards ? "Paths to" : "Paths from"} ${places[0].label}: ${count(places.length, "place")}, ${count(links.length, "link")}. Arrow keys move from place to place. The tables below tell the same.`,
      places,
      links,
      backwards,
      chosen: indexOf(this.chosen),
      onChoose: ({ place, link }) => {
        this.chosen = place === undefined ? this.linkOf(link, places) : { place: places[place] };
        this.showChosen(told);
      },
    });
    diagram.style.setProperty("min-width", `${(depth + 1) * COLUMN_LEAST}px`);
    this.choose = (chosen) => {
      this.chosen = chosen;
      diagram.choose(indexOf(chosen));
      this.showChosen(told);
      told.scrollIntoView({ block: "nearest" });
    };
    this.showChosen(told);
    const scroll = h("div", { class: "chart-scroll" }, diagram);
    // Where there is no room for all of it, it begins with the chosen event.
    if (backwards) requestAnimationFrame(() => { scroll.scrollLeft = scroll.scrollWidth; });
    return card("Where they went", [scroll, h("p", { class: "muted note legend" }, "Height and width are users;", h("span", { class: "legend-bar legend-stopped" }), stoppedWords(backwards)), told]);
  }

  /// The chosen place or link in words, and its users as audiences.
  showChosen(place) {
    const { chosen } = this;
    if (!chosen) return fill(place, h("p", { class: "muted note" }, "Choose a place or a link to see its numbers, and to keep its users as an audience."));
    return fill(place, h("div", { class: "cell-told" }, chosen.place ? this.placeTold(chosen.place) : this.linkTold(chosen.link)));
  }

  placeTold(place) {
    const backwards = this.isBackwards;
    const { users, stopped, depth } = place;
    const isLast = depth === this.body.depth;
    const words = placeWords(place, backwards);
    const went = users - stopped;
    return [
      h("p", { class: "grow", role: "status" }, h("strong", {}, words), `: ${count(users, "user")}, ${percent(users / this.answer.users)} of all. `, isLast ? "What lies beyond is not looked at." : `${integer(stopped)} ${stoppedWords(backwards)}, ${percent(stopped / users)}; ${integer(went)} ${backwards ? "had something before" : "went on"}, ${percent(went / users)}.`),
      this.keeper(`Keep the ${integer(users)} who came here`, users, `${count(users, "user")} came to ${words}.`, { depth, at: namedAt(place) }),
      !isLast && this.keeper(`Keep the ${integer(stopped)} who ${backwards ? "had nothing before" : "stopped"}`, stopped, `${count(stopped, "user")} came to ${words} and ${stoppedWords(backwards)}.`, { depth, at: namedAt(place), stopped: true }),
    ];
  }

  linkTold(link) {
    const { from, to, users, share, median_seconds: median } = link;
    const [near, far] = this.isBackwards ? [to, from] : [from, to];
    const words = `${from.label} → ${to.label}`;
    return [
      h("p", { class: "grow", role: "status" }, h("strong", {}, `${words}, ${columnName(far.depth, this.isBackwards)}`), `: ${count(users, "user")}, ${percent(share)} of the ${integer(near.users)} at ${near.label}. Half of them took ${seconds(median)} or less.`),
      this.keeper(`Keep the ${integer(users)} who went so`, users, `${count(users, "user")} went ${words}, ${columnName(far.depth, this.isBackwards)}.`, { depth: near.depth, at: namedAt(near), then: namedAt(far) }),
    ];
  }

  keeper(text, users, words, place) {
    const { body } = this;
    const save = (audience, signal) => post("/v1/path", { ...body, save_as: { audience, ...place } }, { signal });
    return button(text, { name: "save", disabled: users === 0, onClick: () => keepUsers(words, save) });
  }

  linksCard(places) {
    const rows = this.answer.links.map((_, at) => this.linkOf(at, places).link);
    const most = Math.max(1, ...rows.map((row) => row.users));
    const backwards = this.isBackwards;
    const when = ({ from, to }) => columnName(Math.max(from.depth, to.depth), backwards);
    const columns = [
      { title: "From and to", header: true, cell: ({ from, to }) => h("span", { class: "link-name" }, `${from.label} → ${to.label}`, h("span", { class: "narrow muted small" }, when({ from, to }))) },
      { title: "When", wide: true, cell: (row) => h("span", { class: "nowrap" }, when(row)) },
      { title: "Users", number: true, cell: (row) => integer(row.users) },
      { title: "", unseen: "Users as a bar", wide: true, width: "20%", cell: (row) => h("span", { class: "bar bar-found", "aria-hidden": "true" }, h("span", { class: "bar-fill", style: { width: `${(row.users / most) * 100}%` } })) },
      { title: backwards ? "Of all at its end" : "Of all at its start", number: true, cell: (row) => percent(row.share) },
      { title: "Median time", number: true, wide: true, cell: (row) => seconds(row.median_seconds) },
    ];
    return h("section", { class: "card" }, h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Links")), table({ label: "Links of the paths", dense: true, pageRows: 15, rows, key: (row) => row.at, columns, onRow: (link) => this.choose({ link }) }));
  }

  placesCard(places) {
    const backwards = this.isBackwards;
    const { depth } = this.body;
    const columns = [
      { title: "Place", header: true, cell: (place) => h("span", { class: "link-name" }, place.label) },
      { title: "When", cell: (place) => h("span", { class: "nowrap" }, columnName(place.depth, backwards)) },
      { title: "Users", number: true, cell: (place) => integer(place.users) },
      { title: "Of all", number: true, wide: true, cell: (place) => percent(place.users / this.answer.users) },
      { title: backwards ? "Nothing before" : "Stopped there", number: true, cell: (place) => (place.depth === depth ? "–" : integer(place.stopped)) },
    ];
    return h("section", { class: "card" }, h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Places")), table({ label: "Places of the paths", dense: true, pageRows: 15, rows: places, key: (place) => `${place.depth} ${place.name}`, columns, onRow: (place) => this.choose({ place }) }));
  }
}

/// A place as the call names it.
const namedAt = ({ step, value, others }) => (others === undefined ? { step, value } : { step, others: true });
