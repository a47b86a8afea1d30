// Attribution: to which campaigns conversions are credited, by five models beside each other.

import { canBeAdded, tellsApart } from "../core/catalog.js";
import { h } from "../core/dom.js";
import { count, decimal, integer, percent } from "../core/format.js";
import { modelsChart } from "../charts/models.js";
import { audienceField } from "../components/audience_field.js";
import { segmented } from "../components/button.js";
import { editorList } from "../components/editor_list.js";
import { fieldOf, inputField, labelled, selectField } from "../components/fields.js";
import { card, figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { empty } from "../components/state.js";
import { table } from "../components/table.js";
import { columnChoice } from "./choice.js";
import { readStep, stepEditor, writeStep } from "./step.js";
import { View, WINDOW_UNITS, WITHIN_UNITS } from "./view.js";

const TOUCHES_MAX = 31;
const LOOKBACK = "30 days";
const HALF_LIFE = "7 days";
const POSITION = "40,20,40";
const ORDER = "linear";
/// As many campaigns are drawn; the table has all that are listed.
const DRAWN_MAX = 12;
const MODELS = [["first", "First"], ["last", "Last"], ["linear", "Linear"], ["decay", "Decay"], ["position", "Position"]];
const MEASURES = [["conversions", "Conversions"], ["value", "Value"]];

export function mountAttribution(root, params, context, facts) {
  new Attribution(root, params, context, facts).show();
}

class Attribution extends View {
  path = "/v1/attribution";

  constructor(root, params, context, facts) {
    super(root, context);
    this.facts = facts;
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    const order = read("order", ORDER);
    this.asked = { lookback: read("lookback", LOOKBACK), half_life: read("half_life", HALF_LIFE), position: read("position", POSITION), within: read("within"), where: read("where"), order: MODELS.some(([model]) => model === order) ? order : ORDER };
    this.measure = read("measure") === "value" ? "value" : "conversions";
    this.given = { conversion: readStep(read("conversion")), value: read("value"), touches: params.getAll("touch").map(readStep), by: read("by") };
  }

  show() {
    const { asked, facts, given } = this;
    const changed = () => this.runSoon();
    const worth = columnChoice({ label: "What one is worth", value: given.value, options: (fields) => [["", "counted"], ...fields.filter(canBeAdded).map(({ name }) => [name, `worth its ${name}`])], changed });
    const conversion = stepEditor(given.conversion, { label: "Conversion", facts, changed, beside: { value: worth } });
    this.by = columnChoice({ label: "Campaigns are", value: given.by, options: (fields) => [["", "each touch"], ...fields.filter(tellsApart).map(({ name }) => [name, `values of ${name}`])], changed });
    this.by.classList.add("select-wide");
    this.fields = {
      conversion,
      value: conversion,
      touches: editorList({ noun: "Touch", values: given.touches, most: TOUCHES_MAX, make: (touch, tools) => stepEditor(touch, { facts, changed, tools }), changed }),
      by: fieldOf("Campaigns are", this.by),
      where: audienceField({ label: "Of whom", value: asked.where, onChange: this.change("where") }),
      lookback: spanField({ label: "Touches up to so long before", value: asked.lookback, units: WINDOW_UNITS, onChange: this.change("lookback") }),
      within: spanField({ label: "Conversions of", value: asked.within, units: WITHIN_UNITS, otherwise: "any time", onChange: this.change("within") }),
      half_life: spanField({ label: "Decay: half-life", value: asked.half_life, units: WINDOW_UNITS, onChange: this.change("half_life") }),
      position: inputField({ label: "Position: first, between, last", value: asked.position, class: "input input-position", title: "Of 100", onInput: this.change("position") }),
      order: selectField({ label: "Ordered by", value: asked.order, options: MODELS, onChange: this.change("order") }),
    };
    const { touches, by, where, lookback, within, half_life: halfLife, position, order } = this.fields;
    this.open(
      labelled("Conversion", conversion),
      h("div", { class: "field" }, h("span", { class: "field-label" }, "What it can be credited to; an event is a conversion if it can be, else the first of these"), touches),
      h("div", { class: "settings settings-flow" }, where, by, lookback, within, halfLife, position, order),
    );
  }

  async question(signal) {
    const { asked, fields } = this;
    const [read, touches] = await Promise.all([fields.conversion.read(signal), fields.touches.read(signal)]);
    await this.by.of([...new Set(touches.map(({ fact }) => fact))]);
    signal.throwIfAborted();
    const { value, ...conversion } = read ?? {};
    const by = this.by.chosen();
    this.noted = { conversion: read && writeStep(conversion), value, touch: touches.map(writeStep), by };
    this.note();
    if (!read || touches.length === 0) return null;
    const body = { conversion, touches, lookback: asked.lookback, half_life: asked.half_life, position: positionOf(asked.position), order: asked.order };
    if (value) body.value = value;
    if (by) body.by = by;
    for (const key of ["within", "where"]) if (asked[key]) body[key] = asked[key];
    return body;
  }

  note() {
    const { asked } = this;
    const other = (key, usual) => (asked[key] === usual ? null : asked[key]);
    this.context.note({ ...this.noted, lookback: other("lookback", LOOKBACK), half_life: other("half_life", HALF_LIFE), position: other("position", POSITION), within: asked.within, where: asked.where, order: other("order", ORDER), measure: this.measure === "value" ? "value" : null });
  }

  invitation() {
    return empty("Choose a conversion, and what it can be credited to", "Attribution tells which campaigns purchases come of: by the first touch, the last one, and three models in between.");
  }

  shown() {
    const { all, untouched, campaigns, more } = this.answer;
    const worth = this.body.value;
    const touched = all.conversions - untouched.conversions;
    const share = (part, whole) => (whole > 0 ? percent(part / whole) : "–");
    return [
      this.figures([
        figure("Conversions", integer(all.conversions), `of ${count(all.users, "user")}`),
        figure("With a touch", integer(touched), `${share(touched, all.conversions)} of conversions`),
        figure("Untouched", integer(untouched.conversions), `${share(untouched.conversions, all.conversions)} of conversions, ${count(untouched.users, "user")}`),
        worth && figure(`Sum of ${worth}`, decimal(all.value), `${decimal(untouched.value)} of it untouched, ${share(untouched.value, all.value)}`),
      ]),
      all.conversions === 0
        ? empty("No conversions", "Look at a longer time, or at another event.")
        : campaigns.length === 0
          ? empty("No conversion has a touch", "Look farther back, or at other touches.")
          : this.campaignsCard(campaigns, more),
    ];
  }

  /// The models beside each other, of conversions or of their value.
  campaignsCard(campaigns, more) {
    const { by, value: worth } = this.body;
    const place = h("div", { class: "stack" });
    const draw = () => {
      const isValue = Boolean(worth) && this.measure === "value";
      const unit = isValue ? `${worth} credited` : "conversions credited";
      const credits = (one) => (isValue ? one.value : one.credited);
      const named = ({ campaign }) => campaign ?? `no ${by}`;
      const rows = campaigns.map((one, at) => ({ ...one, at, name: named(one), credits: credits(one) }));
      const drawn = rows.slice(0, DRAWN_MAX);
      place.replaceChildren(
        modelsChart({ label: `What campaigns are credited with by five models, in ${unit}`, rows: drawn, models: MODELS, unit }),
        h("p", { class: "muted note" }, rows.length > drawn.length ? `Drawn are the first ${drawn.length} of ${integer(rows.length)}. ` : "", "Credits of a model add up to all conversions with a touch. A touch counts for every conversion behind it that is near enough."),
        this.creditsTable(more ? [...rows, { at: rows.length, name: `${count(more.campaigns, "campaign")} more`, isRest: true, credits: credits(more) }] : rows, unit),
      );
    };
    draw();
    return card("Credited by five models", place, worth && segmented("What is credited", MEASURES, this.measure, (measure) => { this.measure = measure; this.note(); draw(); }));
  }

  creditsTable(rows, unit) {
    return h("div", { class: "flush-table" }, table({
      label: `Campaigns by ${unit}`,
      dense: true,
      pageRows: 20,
      rows,
      key: (row) => row.at,
      columns: [
        { title: this.body.by ?? "Touch", header: true, cell: ({ name, campaign, isRest }) => h("span", { class: `link-name ${campaign === null || isRest ? "muted" : ""}` }, name) },
        { title: "Touched", number: true, wide: true, cell: ({ conversions, isRest }) => (isRest ? "–" : integer(conversions)) },
        { title: "Users", number: true, wide: true, cell: ({ users, isRest }) => (isRest ? "–" : integer(users)) },
        ...MODELS.map(([model, text]) => ({ title: text, number: true, cell: ({ credits }) => decimal(credits[model]) })),
      ],
    }));
  }
}

/// Reads `40,20,40`.
function positionOf(text) {
  const parts = text.split(/[\s,/]+/).filter(Boolean);
  if (parts.length === 3 && parts.every((part) => /^\d+$/.test(part))) return parts.map(Number);
  throw Object.assign(new Error("Write what the first touch, those in between and the last one have of 100, as 40,20,40."), { pointer: "/position" });
}
