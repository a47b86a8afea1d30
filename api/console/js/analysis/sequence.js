// Sequence: who followed a pattern of events, how often, and who came how far in it.

import { post } from "../core/api.js";
import { fill, h } from "../core/dom.js";
import { count, decimal, integer, percent, seconds, shorter } from "../core/format.js";
import { funnelChart } from "../charts/steps.js";
import { audienceField } from "../components/audience_field.js";
import { button } from "../components/button.js";
import { editorList } from "../components/editor_list.js";
import { fieldOf } from "../components/fields.js";
import { card, figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { empty } from "../components/state.js";
import { farCard } from "./far.js";
import { keepUsers } from "./keep.js";
import { readStep, stepEditor, writeStep } from "./step.js";
import { View, WITHIN_UNITS } from "./view.js";

const STEPS_MAX = 32;
const PART = /\(\?(\d+)\)|\(\?t(<=|>=|==|<|>)(\d+)\)|\.\*|\./y;
/// What a pattern is made of: as it is written, and what it means.
const PARTS = [
  ["(?1)", "the very next event, which is of step 1"],
  [".", "the very next event, whichever it is"],
  [".*", "any number of events"],
  ["(?t<=3600)", "any number of events, in 3,600 seconds at most; or < >= > =="],
];
const TIMES = { "<=": "at most", "<": "less than", ">=": "at least", ">": "more than", "==": "exactly" };

export function mountSequence(root, params, context, facts) {
  new Sequence(root, params, context, facts).show();
}

/// The parts of a pattern, null if it is none.
function partsOf(pattern) {
  const parts = [];
  for (let at = 0; at < pattern.length; at = PART.lastIndex) {
    PART.lastIndex = at;
    const [text, step, operator, time] = PART.exec(pattern) ?? [];
    if (!text) return null;
    parts.push({ text, step: step && Number(step), operator, time: time && Number(time) });
  }
  return parts;
}

class Sequence extends View {
  path = "/v1/sequence";

  constructor(root, params, context, facts) {
    super(root, context);
    this.facts = facts;
    const read = (key) => params.get(key) ?? "";
    this.asked = { pattern: read("pattern"), within: read("within"), where: read("where") };
    this.given = params.getAll("step").map(readStep);
    while (this.given.length < 2) this.given.push({});
  }

  show() {
    const { asked, facts } = this;
    const changed = () => this.runSoon();
    this.input = h("input", { class: "input mono", value: asked.pattern, spellcheck: "false", autocomplete: "off", on: { input: () => this.change("pattern")(this.input.value.trim()) } });
    this.words = h("p", { class: "hint pattern-words", role: "status" });
    this.fields = {
      steps: editorList({ noun: "Step", values: this.given, most: STEPS_MAX, make: (step, tools) => stepEditor(step, { facts, changed, tools }), changed }),
      pattern: fieldOf("Pattern", this.input),
      where: audienceField({ label: "Of whom", value: asked.where, onChange: this.change("where") }),
      within: spanField({ label: "Events of", value: asked.within, units: WITHIN_UNITS, otherwise: "any time", onChange: this.change("within") }),
    };
    const { steps, pattern, where, within } = this.fields;
    const help = PARTS.map(([part, words]) => h("li", {}, button(part, { kind: "quiet", title: "Put it into the pattern", onClick: () => this.insert(part) }), h("span", {}, words)));
    this.open(
      steps,
      h("div", { class: "pattern" }, h("div", {}, pattern, this.words), h("div", {}, h("p", { class: "field-label" }, "A pattern is made of"), h("ul", { class: "pattern-help" }, help))),
      h("div", { class: "settings settings-flow" }, where, within),
    );
  }

  /// Puts a part where the cursor is.
  insert(part) {
    const { input } = this;
    input.setRangeText(part, input.selectionStart, input.selectionEnd, "end");
    input.focus();
    this.change("pattern")(input.value.trim());
  }

  async question(signal) {
    const { asked, fields } = this;
    const steps = await fields.steps.read(signal);
    if (steps.length === 0) {
      fill(this.words);
      this.context.note({ pattern: asked.pattern, within: asked.within, where: asked.where });
      return null;
    }
    // Unless it is said, the steps in order, whatever lies between.
    const usual = steps.map((_, at) => `(?${at + 1})`).join(".*");
    this.input.placeholder = usual;
    const pattern = this.numbered(asked.pattern) || usual;
    this.context.note({ step: steps.map(writeStep), pattern: pattern === usual ? null : pattern, within: asked.within, where: asked.where });
    fill(this.words, inWords(pattern, steps));
    const body = { steps, pattern };
    for (const key of ["within", "where"]) if (asked[key]) body[key] = asked[key];
    return body;
  }

  /// A pattern by the numbers of the steps that are asked about: those without an event are left out.
  numbered(pattern) {
    const numbers = this.fields.steps.numbers();
    return (partsOf(pattern) ?? [{ text: pattern }]).map(({ text, step }) => {
      if (!step) return text;
      const at = numbers.indexOf(step);
      if (at < 0) throw Object.assign(new Error(numbers.length > 0 ? `The pattern names step ${step}, which has no event; there are ${numbers.join(", ")}.` : `The pattern names step ${step}, which has no event.`), { pointer: "/pattern" });
      return `(?${at + 1})`;
    }).join("");
  }

  invitation() {
    return empty("Choose the events", "A sequence tells who followed a pattern: a visit, within the hour a purchase, and nothing in between.");
  }

  shown() {
    const { taken, users, times } = this.answer;
    const first = taken[0].users;
    return [
      this.figures([
        figure("Followed it", integer(users), first > 0 ? `${percent(users / first)} of the ${integer(first)} who began` : "nobody began"),
        figure("Times", integer(times), users > 0 ? `${decimal(times / users)} a user; what overlaps counts once` : "what overlaps counts once"),
        taken.length > 1 && figure("Began", integer(first), `with ${shorter(taken[0].name)}`),
      ]),
      first === 0
        ? empty("Nobody began", "Nobody has the first event of the pattern. Look at a longer time, or at other events.")
        : [
          card("How far they came", [funnelChart(taken, "Pattern", "event"), legend()]),
          farCard({ label: "Events of the pattern", noun: "event", steps: taken, keep: (row, stopped) => this.keep(row, stopped) }),
        ],
    ];
  }

  keep(row, stopped) {
    const { body } = this;
    const place = `event ${row.at + 1} of the pattern, ${shorter(row.name)}`;
    const text = stopped ? `${count(row.stopped, "user")} came to ${place}, and no further.` : `${count(row.users, "user")} came to ${place}.`;
    return keepUsers(text, (audience, signal) => post("/v1/sequence", { ...body, save_as: { audience, step: row.at + 1, stopped } }, { signal }));
  }
}

/// What a pattern means; null if it is none.
function inWords(pattern, steps) {
  const parts = partsOf(pattern);
  if (!parts) return null;
  const taken = (part) => part.step || part.text === ".";
  const last = parts.findLastIndex(taken);
  let between = [];
  let isFirst = true;
  const words = [];
  for (const part of parts.slice(0, last + 1)) {
    if (!taken(part)) {
      between.push(part);
      continue;
    }
    const name = part.step ? (steps[part.step - 1] ? `“${shorter(writeStep(steps[part.step - 1]))}”` : `step ${part.step}`) : "any event";
    const times = between.filter(({ time }) => time !== undefined).map(({ operator, time }) => `${TIMES[operator]} ${seconds(time)}`);
    if (isFirst) words.push(name);
    else if (between.length === 0) words.push(`next ${name}`);
    else words.push(times.length > 0 ? `${times.join(" and ")} later ${name}` : `later ${name}`);
    [between, isFirst] = [[], false];
  }
  return words.join(", ");
}

const legend = () => h("p", { class: "muted note legend" }, h("span", { class: "legend-bar" }), "came so far", h("span", { class: "legend-bar legend-lost" }), "of the event before", h("span", { class: "legend-gap" }), "→ share of the event before; above, share of the first");
