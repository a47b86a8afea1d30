// Campaign effect: impressions, clicks, conversions, what they cost and are worth, whom they reached and how often, and whom one more channel adds.

import { canBeAdded, tellsApart } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { compact, count, decimal, integer, percent } from "../core/format.js";
import { columnChart } from "../charts/columns.js";
import { periodsChart } from "../charts/periods.js";
import { reachChart } from "../charts/reach.js";
import { audienceField } from "../components/audience_field.js";
import { combobox, filtered } from "../components/combobox.js";
import { daysField } from "../components/days.js";
import { fieldAround, fieldOf, inputField, labelled, selectField } from "../components/fields.js";
import { card, figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { empty } from "../components/state.js";
import { table } from "../components/table.js";
import { columnChoice } from "./choice.js";
import { readStep, readValuedStep, stepEditor, writeStep, writeValuedStep } from "./step.js";
import { View, WITHIN_UNITS, wholeNumber } from "./view.js";

const CAP = "10";
const ORDER = "impressions";
const ORDERS = [["impressions", "Impressions"], ["reach", "Reach"], ["clicks", "Clicks"], ["conversions", "Conversions"], ["cost", "Cost"], ["value", "Value"]];
const GRAINS = [["", "not told apart"], ["hour", "hours"], ["day", "days"], ["week", "weeks"], ["month", "months"]];
/// Groups with a line of their own, channels and periods that are drawn, and numbers of impressions that are said of a chart.
const LINES_MAX = 5;
const CHANNELS_DRAWN_MAX = 15;
const NUMBERS_SAID_MAX = 20;
const PERIODS_DRAWN_MAX = 20_000;

const share = (value) => (value === null || value === undefined ? "–" : percent(value));
const amount = (value) => (value === null || value === undefined ? "–" : decimal(Number(value)));
/// What can be told of a group or a period, in the order of a table: how it is written, and whether it adds up to nothing where there are no
/// events. `wide` ones are left out on small screens.
const FIGURES = [
  { key: "impressions", text: "Impressions", told: integer, counts: true },
  { key: "reach", text: "Reach", told: integer, counts: true, unit: "users" },
  { key: "frequency", text: "Frequency", told: amount, wide: true, unit: "impressions of a user" },
  { key: "clicks", text: "Clicks", told: integer, counts: true, wide: true },
  { key: "clickers", text: "Clickers", told: integer, counts: true, wide: true, unit: "users" },
  { key: "click_rate", text: "Click rate", told: share, wide: true, needs: "clicks", unit: "clicks by impressions" },
  { key: "conversions", text: "Conversions", told: integer, counts: true },
  { key: "converters", text: "Converters", told: integer, counts: true, wide: true, unit: "users" },
  { key: "conversion_rate", text: "Conversion rate", told: share, wide: true, needs: "clicks", and: "conversions", unit: "conversions by clicks" },
  { key: "cost", text: "Cost", told: amount, counts: true, wide: true },
  { key: "cost_per_thousand", text: "Cost per 1,000", told: amount, wide: true, needs: "cost", unit: "cost of 1,000 impressions" },
  { key: "cost_per_user", text: "Cost per user", told: amount, wide: true, needs: "cost", unit: "cost of a user reached" },
  { key: "cost_per_click", text: "Cost per click", told: amount, wide: true, needs: "cost", and: "clicks", unit: "cost of a click" },
  { key: "cost_per_conversion", text: "Cost per conversion", told: amount, wide: true, needs: "cost", and: "conversions", unit: "cost of a conversion" },
  { key: "value", text: "Value", told: amount, counts: true, wide: true },
  { key: "return_on_cost", text: "Return", told: amount, needs: "cost", and: "value", unit: "value by cost" },
];
/// Those that some figures tell.
const toldOf = (figures) => FIGURES.filter(({ key, needs = key, and = key }) => [key, needs, and].every((name) => figures[name] !== undefined));

export function mountEffect(root, params, context, facts) {
  new Effect(root, params, context, facts).show();
}

class Effect extends View {
  path = "/v1/effect";

  constructor(root, params, context, facts) {
    super(root, context);
    this.facts = facts;
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    const known = (options, value, otherwise) => (options.some(([one]) => one === value) ? value : otherwise);
    this.asked = { within: read("within"), between: [read("from"), read("to")], where: read("where"), grain: known(GRAINS, read("grain"), ""), time_zone: read("zone"), cap: read("cap", CAP), order: known(ORDERS, read("order"), ORDER), channels: params.getAll("channel") };
    this.given = { impressions: readStep(read("impressions")), clicks: readValuedStep(read("clicks")), conversions: readValuedStep(read("conversions")), cost: read("cost"), click_cost: read("click_cost"), value: read("value"), by: read("by") };
    this.figure = read("figure", "reach");
    this.of = read("of");
  }

  show() {
    const { asked, facts, given } = this;
    const changed = () => this.runSoon();
    const added = (label, none, each) => (value) => columnChoice({ label, value, options: (fields) => [["", none], ...fields.filter(canBeAdded).map(({ name }) => [name, `${each} its ${name}`])], changed });
    const paid = added("What one costs", "costs nothing", "costs");
    const worth = added("What one is worth", "counted", "worth");
    const apart = (value) => columnChoice({ label: "Its column", value, options: (fields) => [["", "by the same column"], ...fields.filter(tellsApart).map(({ name }) => [name, `by its ${name}`])], changed });
    const editor = (label, step, beside, none) => stepEditor(step, { label, facts, changed, beside, none });
    const impressions = editor("Impressions", given.impressions, { cost: paid(given.cost) });
    const clicks = editor("Clicks", given.clicks, { by: apart(given.clicks.by), cost: paid(given.click_cost) }, "none");
    const conversions = editor("Conversions", given.conversions, { by: apart(given.conversions.by), value: worth(given.value) }, "none");
    this.by = columnChoice({ label: "Told apart by", value: given.by, options: (fields) => [["", "nothing"], ...fields.filter(tellsApart).map(({ name }) => [name, name])], changed });
    this.by.classList.add("select-wide");
    const channels = combobox({ label: "Channels that come first", values: asked.channels, multiple: true, free: true, placeholder: "the one that adds most", options: (query) => filtered(this.known(), query), onChange: this.change("channels") });
    this.channelsField = fieldAround("Channels that come first", channels);
    this.fields = {
      impressions,
      clicks,
      conversions,
      // Whose column it is.
      cost: { showProblem: (problem) => problem && (this.isPaidByClick ? clicks : impressions).showProblem(problem) },
      cost_of: clicks,
      value: conversions,
      by: fieldOf("Told apart by", this.by),
      grain: selectField({ label: "Periods", value: asked.grain, options: GRAINS, onChange: (grain) => { this.zone.hidden = !grain; this.change("grain")(grain); } }),
      time_zone: inputField({ label: "By the clocks of", value: asked.time_zone, placeholder: "the fact", onInput: this.change("time_zone") }),
      within: spanField({ label: "Events of", value: asked.within, units: WITHIN_UNITS, otherwise: "any time", onChange: this.change("within") }),
      between: daysField({ label: "From one day to another", value: asked.between, onChange: this.change("between") }),
      where: audienceField({ label: "Of whom", value: asked.where, onChange: this.change("where") }),
      cap: inputField({ label: "Frequency up to", value: asked.cap, inputmode: "numeric", class: "input input-short", onInput: this.change("cap") }),
      order: selectField({ label: "Ordered by", value: asked.order, options: ORDERS, onChange: this.change("order") }),
      channels: this.channelsField,
    };
    const { by, grain, time_zone: zone, within, between, where, cap, order } = this.fields;
    this.zone = zone;
    zone.hidden = !asked.grain;
    this.open(
      labelled("Impressions: what is shown", impressions),
      labelled("Clicks: what counts as taking it up", clicks),
      labelled("Conversions: what it was for", conversions),
      h("div", { class: "settings settings-flow" }, where, by, within, between, grain, zone, cap, order),
      this.channelsField,
    );
  }

  /// Groups that were told of last.
  known() {
    return (this.answer?.incremental?.channels ?? []).filter(({ channel }) => channel !== null).map(({ channel, reach }) => ({ value: channel, count: reach }));
  }

  async question(signal) {
    const { asked, fields } = this;
    const [shown, clicked, converted] = await Promise.all([fields.impressions.read(signal), fields.clicks.read(signal), fields.conversions.read(signal)]);
    await this.by.of(shown ? [shown.fact] : []);
    signal.throwIfAborted();
    const { cost, ...impressions } = shown ?? {};
    const { cost: clickCost, ...clicks } = clicked ?? {};
    const { value, ...conversions } = converted ?? {};
    const by = this.by.chosen();
    this.channelsField.hidden = !by;
    this.noted = { impressions: shown && writeStep(impressions), clicks: clicked && writeValuedStep(clicks), conversions: converted && writeValuedStep(conversions), cost, click_cost: clickCost, value, by };
    this.note();
    if (!shown) return null;
    this.isPaidByClick = Boolean(clickCost);
    if (cost && clickCost) throw Object.assign(new Error("Either impressions cost something or clicks: choose for one of them that it costs nothing."), { pointer: "/clicks" });
    const body = { impressions, cap: wholeNumber(asked.cap, "cap", "Write how many numbers of impressions users are told apart by, as 10.") };
    // A column of their own says nothing where impressions are not told apart.
    const step = (read) => (by ? read : { ...read, by: undefined });
    if (clicked) body.clicks = step(clicks);
    if (converted) body.conversions = step(conversions);
    if (cost || clickCost) body.cost = cost || clickCost;
    if (clickCost) body.cost_of = "clicks";
    if (value) body.value = value;
    if (by) body.by = by;
    if (by && asked.channels.length > 0) body.channels = asked.channels;
    if (asked.grain && asked.time_zone) body.time_zone = asked.time_zone;
    if (asked.between.some(Boolean)) body.between = bothDays(asked.between);
    if (asked.order !== ORDER) body.order = asked.order;
    for (const key of ["grain", "within", "where"]) if (asked[key]) body[key] = asked[key];
    return body;
  }

  note() {
    const { asked } = this;
    const other = (value, usual) => (value === usual ? null : value);
    this.context.note({ ...this.noted, within: asked.within, from: asked.between[0], to: asked.between[1], where: asked.where, grain: asked.grain, zone: asked.time_zone, cap: other(asked.cap, CAP), order: other(asked.order, ORDER), channel: asked.channels, figure: other(this.figure, "reach"), of: this.of });
  }

  invitation() {
    return empty("Choose what is shown", "The effect of a campaign: how many were reached and how often, what they did, what it cost, and whom one more channel would add.");
  }

  shown() {
    const { all, groups, more, incremental, events } = this.answer;
    const { figures } = all;
    const has = (key) => figures[key] !== undefined;
    const rated = (rate, words) => (rate === null ? null : `${percent(rate)} of ${words}`);
    const notes = (...parts) => parts.filter(Boolean).join(", ");
    const each = (value, words) => value !== null && `${decimal(value)} ${words}`;
    return [
      this.figures(
        [
          figure("Impressions", integer(figures.impressions), figures.frequency === null ? null : `${decimal(figures.frequency)} of a user`),
          figure("Reach", integer(figures.reach), "users with any of them"),
          has("clicks") && figure("Clicks", integer(figures.clicks), notes(rated(figures.click_rate, "impressions"), count(figures.clickers, "user"))),
          has("conversions") && figure("Conversions", integer(figures.conversions), notes(rated(figures.conversion_rate, "clicks"), count(figures.converters, "user"))),
          has("cost") && figure("Cost", amount(figures.cost), notes(each(figures.cost_per_thousand, "per 1,000"), each(figures.cost_per_click, "per click"), each(figures.cost_per_conversion, "per conversion"))),
          has("value") && figure("Value", amount(figures.value), figures.return_on_cost === null ? null : `${decimal(figures.return_on_cost)} times the cost`),
        ],
        events === 0 ? "told by the activity index" : count(events, "event"),
      ),
      figures.impressions === 0 && !figures.clicks && !figures.conversions
        ? empty("Nothing was shown", "Look at a longer time, or at other events.")
        : [
          this.body.by && groups.length > 0 && this.groupsCard(groups, more, figures),
          all.periods && this.periodsCard(),
          this.frequencyCard(),
          incremental && incremental.channels.length > 0 && this.reachCard(incremental),
        ],
    ];
  }

  nameOf(value) {
    return value ?? `no ${this.body.by}`;
  }

  groupsCard(groups, more, all) {
    const { by } = this.body;
    const rows = groups.map(({ group, figures }) => ({ name: this.nameOf(group), isNone: group === null, figures }));
    if (more) rows.push({ name: `${count(more.groups, "more", "more")}, together`, isNone: true, figures: more.figures });
    rows.push({ name: "All together", isAll: true, figures: all });
    const told = toldOf(groups[0].figures);
    const columns = told.map(({ key, text, told: write, wide }) => ({ title: text, number: true, wide, cell: ({ figures }) => write(figures[key]) }));
    const isPartial = told.length < toldOf(all).length;
    return h(
      "section",
      { class: "card" },
      h("header", { class: "card-head" }, h("h2", { class: "grow" }, `By ${by}`), h("p", {}, "Users count once in each row")),
      table({ label: `Effect by ${by}`, dense: true, pageRows: 20, rows: rows.map((row, at) => ({ ...row, at })), key: (row) => row.at, columns: [{ title: by, header: true, cell: ({ name, isNone, isAll }) => h("span", { class: `link-name ${isNone ? "muted" : ""} ${isAll ? "all-together" : ""}` }, name) }, ...columns] }),
      isPartial && h("p", { class: "muted note card-note" }, `What has no column ${by} is told of all together only: conversions of campaigns are a matter of attribution.`),
    );
  }

  /// A figure by period, of all and of the first groups.
  periodsCard() {
    const { all, groups, time_zone: zone } = this.answer;
    const { grain } = this.body;
    const told = toldOf(all.figures);
    const whole = periodsOf(all.periods, grain);
    const periods = whole.slice(-PERIODS_DRAWN_MAX);
    const place = h("div", {});
    const draw = () => {
      const chosen = told.find(({ key }) => key === this.figure) ?? told.find(({ key }) => key === "reach");
      const { key, text, told: write, counts, unit } = chosen;
      const valuesOf = (own) => {
        const known = new Map(own.map(({ from, figures }) => [from, figures]));
        // Without any event a count is 0, and a ratio is none.
        return periods.map(({ from }) => (known.has(from) ? numberOf(known.get(from)[key]) : counts ? 0 : null));
      };
      const drawn = groups.filter(({ figures }) => figures[key] !== undefined).slice(0, LINES_MAX);
      const series = [{ name: "All together", values: valuesOf(all.periods) }, ...drawn.map(({ group, periods: own = [] }) => ({ name: this.nameOf(group), values: valuesOf(own) }))];
      const said = ({ name, values }) => {
        const some = values.filter((value) => value !== null);
        return some.length > 0 ? `${name} from ${write(Math.min(...some))} to ${write(Math.max(...some))}` : `${name} without any`;
      };
      fill(
        place,
        periodsChart({ label: `${text} by ${grain}, ${count(periods.length, grain)} from ${periods[0].name} to ${periods.at(-1).name}: ${series.map(said).join("; ")}. The table below tells the same.`, periods, series, format: write === share ? percent : compact, unit: { x: `${grain}s of ${zone}`, y: unit ?? text.toLowerCase() } }),
        series.length > 1 && h("ul", { class: "series-names" }, series.map(({ name }, at) => h("li", {}, h("span", { class: `series-key series-${at}` }), h("span", { class: "clip" }, name)))),
        drawn.length < groups.length && drawn.length > 0 && h("p", { class: "muted note" }, `Drawn are the first ${drawn.length} of ${count(groups.length, "group")}.`),
        periods.length < whole.length && h("p", { class: "muted note" }, `Drawn are the last ${integer(periods.length)} of ${count(whole.length, grain)}.`),
        this.periodsTable(whole, told),
      );
    };
    draw();
    const choice = h("select", { class: "select", "aria-label": "Figure", on: { change: () => { this.figure = choice.value; this.note(); draw(); } } }, told.map(({ key, text }) => h("option", { value: key, selected: key === this.figure }, text)));
    if (!told.some(({ key }) => key === this.figure)) choice.value = "reach";
    return card("Over time", place, choice);
  }

  periodsTable(periods, told) {
    const known = new Map(this.answer.all.periods.map(({ from, figures }) => [from, figures]));
    const rows = periods.filter(({ from }) => known.has(from));
    const columns = told.map(({ key, text, told: write, wide }) => ({ title: text, number: true, wide, cell: ({ from }) => write(known.get(from)[key]) }));
    const place = h("details", { class: "day-table", open: Boolean(this.isTableOpen), on: { toggle: () => { this.isTableOpen = place.open; } } }, h("summary", {}, "As a table"), table({ label: "Effect by period", dense: true, pageRows: 31, rows, key: ({ from }) => from, columns: [{ title: "From", header: true, cell: ({ name }) => h("span", { class: "nowrap" }, name) }, ...columns] }));
    return place;
  }

  /// How often users were reached, by all or by a group.
  frequencyCard() {
    const { all, groups } = this.answer;
    const { cap } = this.body;
    const place = h("div", {});
    const at = groups.findIndex(({ group }) => this.nameOf(group) === this.of);
    const draw = (chosen) => {
      const { figures, frequency } = groups[chosen] ?? all;
      const last = Math.max(1, frequency.findLastIndex((users) => users > 0) + 1);
      const columns = frequency.slice(0, last).map((users, before) => {
        const name = before + 1 === cap ? `${before + 1}+` : String(before + 1);
        return { name, value: users, told: `${name} ${name === "1" ? "impression" : "impressions"}: ${count(users, "user")}${figures.reach > 0 ? `, ${percent(users / figures.reach)}` : ""}` };
      });
      const said = columns.slice(0, NUMBERS_SAID_MAX).map(({ told }) => told).join("; ");
      const most = frequency.reduce((sum, users) => ({ users: sum.users + users, at: sum.users * 2 >= figures.reach ? sum.at : sum.at + 1 }), { users: 0, at: 0 }).at;
      fill(
        place,
        figures.reach === 0
          ? empty("Nobody was reached")
          : [
            columnChart({ label: `How many users had so many impressions, ${groups[chosen] ? this.nameOf(groups[chosen].group) : "all together"}: ${said}${columns.length > NUMBERS_SAID_MAX ? "; and so on" : ""}`, columns, unit: { x: "impressions of a user", y: "users" } }),
            h("p", { class: "muted note" }, `${decimal(figures.frequency)} impressions of a user in the mean; half of the users had ${most === cap ? `${cap} or more` : most === 1 ? "one" : `${most} or fewer`}.`),
          ],
      );
    };
    draw(at);
    const choice = h("select", { class: "select", "aria-label": "Of", on: { change: () => { const chosen = Number(choice.value); this.of = groups[chosen] ? this.nameOf(groups[chosen].group) : ""; this.note(); draw(chosen); } } }, h("option", { value: "-1" }, "all together"), groups.map(({ group }, place) => h("option", { value: String(place), selected: place === at }, this.nameOf(group))));
    return card("How often users were reached", place, groups.length > 0 && choice);
  }

  reachCard({ channels, more }) {
    const rows = channels.map((one, at) => ({ ...one, at, name: this.nameOf(one.channel) }));
    const drawn = rows.slice(0, CHANNELS_DRAWN_MAX);
    const given = this.body.channels?.length ?? 0;
    const columns = [
      { title: this.body.by, header: true, cell: ({ name, channel }) => h("span", { class: `link-name ${channel === null ? "muted" : ""}` }, name) },
      { title: "Reach", number: true, wide: true, cell: ({ reach }) => integer(reach) },
      { title: "No other reached", number: true, wide: true, cell: ({ exclusive }) => integer(exclusive) },
      { title: "Adds", number: true, cell: ({ adds }) => integer(adds) },
      { title: "With those before", number: true, cell: ({ cumulative }) => integer(cumulative) },
      { title: "Of all", number: true, cell: ({ share: part }) => share(part) },
    ];
    return h(
      "section",
      { class: "card" },
      h("header", { class: "card-head" }, h("h2", { class: "grow" }, "What one more channel adds")),
      h(
        "div",
        { class: "card-body" },
        reachChart({ label: "Users whom each channel adds to those before it", rows: drawn }),
        h("p", { class: "muted note legend" }, h("span", { class: "legend-bar" }), "added", h("span", { class: "legend-bar legend-lost" }), "reached by those before", h("span", { class: "legend-gap" }), given > 0 ? "First those that are named, then always the one that adds most." : "Always the one that adds most comes next.", rows.length > drawn.length && ` Drawn are the first ${drawn.length} of ${integer(rows.length)}.`, more && ` ${count(more.channels, "channel")} more add ${count(more.adds, "user")}.`),
        h("div", { class: "flush-table reach-table" }, table({ label: "Incremental reach", dense: true, pageRows: 20, rows, key: ({ at }) => at, columns })),
      ),
    );
  }
}

const numberOf = (value) => (value === null || value === undefined ? null : Number(value));

/// Both days of a time that has any.
function bothDays(days) {
  if (days.every(Boolean)) return days;
  throw Object.assign(new Error("Choose both, the first day and the last one; or neither."), { pointer: "/between" });
}

const NAMES = { hour: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }, day: { day: "numeric", month: "short" }, week: { day: "numeric", month: "short" }, month: { month: "short", year: "numeric" } };

/// All periods from the first to the last that has any event, as `{ from, at, name }`: by the clocks of the answer, so hours may have been skipped.
function periodsOf(told, grain) {
  const timeOf = (from) => Date.parse(`${from.length === 10 ? `${from}T00:00` : from}:00Z`);
  const format = new Intl.DateTimeFormat("en-GB", { ...NAMES[grain], timeZone: "UTC" });
  const last = timeOf(told.at(-1).from);
  const periods = [];
  for (const at = new Date(timeOf(told[0].from)); at.getTime() <= last; ) {
    const from = at.toISOString().slice(0, grain === "hour" ? 16 : 10);
    periods.push({ from, at: at.getTime(), name: format.format(at) });
    if (grain === "month") at.setUTCMonth(at.getUTCMonth() + 1);
    else at.setTime(at.getTime() + { hour: 1, day: 24, week: 7 * 24 }[grain] * 3_600_000);
  }
  return periods;
}
