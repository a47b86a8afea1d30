// Experiment: how groups differ in what their users did, and how sure that is.

import { canBeAdded } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { chance, count, decimal, digits, integer, percent, signed } from "../core/format.js";
import { intervalChart } from "../charts/intervals.js";
import { segmented } from "../components/button.js";
import { editorList } from "../components/editor_list.js";
import { selectField } from "../components/fields.js";
import { icon } from "../components/icon.js";
import { figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { chip, empty } from "../components/state.js";
import { table } from "../components/table.js";
import { columnChoice } from "./choice.js";
import { groupEditor, readGroup, writeGroup } from "./group.js";
import { readStep, stepEditor, writeStep } from "./step.js";
import { View, WITHIN_UNITS } from "./view.js";

const GROUPS_MAX = 20;
const METRICS_MAX = 20;
const CONFIDENCE = "0.95";
const CONFIDENCES = [["0.9", "90 %"], ["0.95", "95 %"], ["0.99", "99 %"]];
const SCALES = [["absolute", "Absolute"], ["relative", "Relative"]];
/// Of q-values up to this one in twenty is expected to be chance.
const SURE = 0.05;

export function mountExperiment(root, params, context, facts) {
  new Experiment(root, params, context, facts).show();
}

/// Reads a metric as the command line has it: `purchase`, `events of visit where page = 'basket'`, `sum(amount) of purchase`.
function readMetric(text) {
  const [, column, summed] = /^\s*sum\(([^)]*)\)\s*of\s+(.*)$/is.exec(text) ?? [];
  if (summed) return { ...readStep(summed), measure: `sum(${column.trim()})` };
  const [, measure, events] = /^\s*(events|users)\s+of\s+(.*)$/is.exec(text) ?? [null, "users", text];
  return { ...readStep(events), measure: measure === "users" ? "" : measure };
}

const writeMetric = ({ measure, ...step }) => (measure ? `${measure} of ${writeStep(step)}` : writeStep(step));

/// What a metric is in the body of the call.
function metricOf({ measure, ...step }) {
  if (!measure) return step;
  return measure === "events" ? { ...step, measure } : { ...step, measure: "sum", value: measure.slice("sum(".length, -1) };
}

class Experiment extends View {
  path = "/v1/experiment";

  constructor(root, params, context, facts) {
    super(root, context);
    this.facts = facts;
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    this.asked = { control: read("control"), within: read("within"), confidence: read("confidence", CONFIDENCE) };
    this.scale = read("scale") === "relative" ? "relative" : "absolute";
    const weights = read("weights").split(",");
    this.given = { groups: params.getAll("group").map((text, at) => ({ ...readGroup(text), weight: weights[at] ?? "" })), metrics: params.getAll("metric").map(readMetric) };
  }

  show() {
    const { asked, facts, given } = this;
    const changed = () => this.runSoon();
    const makeMetric = (metric, tools) => {
      const options = (fields) => [["", "users with any"], ["events", "number of events"], ...fields.filter(canBeAdded).map(({ name }) => [`sum(${name})`, `sum of ${name}`])];
      return stepEditor(metric, { facts, changed, tools, beside: { measure: columnChoice({ label: "What is measured", value: metric?.measure, options, changed }) } });
    };
    const isListed = CONFIDENCES.some(([value]) => value === asked.confidence);
    this.fields = {
      groups: editorList({ noun: "Group", values: given.groups, least: 2, most: GROUPS_MAX, make: (group, tools) => groupEditor(group, { changed, tools }), changed }),
      metrics: editorList({ noun: "Metric", values: given.metrics, most: METRICS_MAX, make: makeMetric, changed }),
      control: selectField({ label: "Compared with", value: asked.control, options: [["", "the first group"]], onChange: this.change("control") }),
      within: spanField({ label: "Events of", value: asked.within, units: WITHIN_UNITS, otherwise: "any time", first: "14 days", onChange: this.change("within") }),
      confidence: selectField({ label: "Intervals hold with", value: asked.confidence, options: isListed ? CONFIDENCES : [...CONFIDENCES, [asked.confidence, asked.confidence]], onChange: this.change("confidence") }),
    };
    const { groups, metrics, control, within, confidence } = this.fields;
    this.open(
      h("div", { class: "field" }, h("span", { class: "field-label" }, "Groups"), groups),
      h("div", { class: "field" }, h("span", { class: "field-label" }, "Compared by"), metrics),
      h("div", { class: "settings settings-flow" }, control, within, confidence),
    );
  }

  async question(signal) {
    const { asked, fields } = this;
    const [groups, metrics] = await Promise.all([fields.groups.read(signal), fields.metrics.read(signal)]);
    signal.throwIfAborted();
    this.offerControl(groups);
    const weights = groups.some(({ weight }) => weight !== undefined) ? groups.map(({ weight }) => weight ?? 1).join(",") : null;
    this.noted = { group: groups.map(writeGroup), weights, metric: metrics.map(writeMetric) };
    this.note();
    if (groups.length < 2 || metrics.length === 0) return null;
    const body = { groups, metrics: metrics.map(metricOf), confidence: Number(asked.confidence) };
    if (asked.control) body.control = asked.control;
    if (asked.within) body.within = asked.within;
    return body;
  }

  /// The groups that the others can be compared with.
  offerControl(groups) {
    const { asked, fields } = this;
    const names = groups.map(({ name }) => name);
    // One that the address names wrongly is told by the server.
    if (asked.control && this.answer && !names.includes(asked.control)) asked.control = "";
    const others = asked.control && !names.includes(asked.control) ? [asked.control] : [];
    fields.control.offer([["", "the first group"], ...[...names, ...others].map((name) => [name, name])], asked.control);
  }

  note() {
    const { control, within, confidence } = this.asked;
    this.context.note({ ...this.noted, control, within, confidence: confidence === CONFIDENCE ? null : confidence, scale: this.scale === "relative" ? "relative" : null });
  }

  invitation() {
    return empty("Choose two groups, and what they are compared by", "An experiment tells how groups differ in what their users did: who was shown the new page, say, against who was shown the old one.");
  }

  shown() {
    const { groups, in_several: several, sample_ratio: ratio, metrics } = this.answer;
    const users = groups.reduce((sum, group) => sum + group.users, 0);
    return [
      this.figures([
        figure("Users", integer(users), `in ${count(groups.length, "group")}`),
        figure("In several groups", integer(several), several === 0 ? "nobody is left out" : "left out of all"),
        ratio && figure("Sample ratio", ratio.mismatch ? "Mismatch" : "As planned", probability(ratio.p_value)),
      ]),
      users === 0
        ? empty("Nobody is in a group", several > 0 ? "Who is in several groups is left out: groups must not be the same users." : "The audiences are empty.")
        : [ratio?.mismatch && this.mismatch(ratio), this.groupsCard(), this.metricCards(metrics), this.reading()],
    ];
  }

  /// That groups are of other sizes than were planned, which no difference below can be read beside.
  mismatch({ p_value: p }) {
    const { groups } = this.answer;
    const sizes = groups.map(({ name, users, share, planned }) => `${name} has ${count(users, "user")}, ${percent(share)} instead of ${percent(planned)}`);
    return h(
      "section",
      { class: "card mismatch", role: "alert" },
      icon("warning", 24),
      h("div", {}, h("h2", {}, "Groups are not as large as was planned"), h("p", {}, `${sizes.join("; ")}. That comes ${p < 0.0001 ? "less often than once in 10,000 times" : `once in ${integer(Math.round(1 / p))} times`} by chance alone (${probability(p)}). Something else put users into groups, or lost some, and differences may come of that. Look for the cause before you read on.`)),
    );
  }

  groupsCard() {
    const { groups } = this.answer;
    const control = this.control();
    return h(
      "section",
      { class: "card" },
      h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Groups")),
      table({
        label: "Groups of the experiment",
        dense: true,
        rows: groups,
        key: (group) => group.name,
        columns: [
          { title: "Group", header: true, cell: ({ name }) => h("span", { class: "row-flex" }, h("span", { class: "wrap" }, name), name === control && chip("control")) },
          { title: "Users", number: true, cell: ({ users }) => integer(users) },
          { title: "Share", number: true, cell: ({ share }) => percent(share) },
          { title: "Planned", number: true, cell: ({ planned }) => percent(planned) },
        ],
      }),
    );
  }

  /// A card for each metric, all on the scale that is chosen.
  metricCards(metrics) {
    const cards = h("div", { class: "stack" });
    const draw = () => fill(cards, metrics.map((metric) => this.metricCard(metric)));
    draw();
    const change = (scale) => {
      this.scale = scale;
      this.note();
      draw();
    };
    return [h("div", { class: "toolbar scale" }, h("span", { class: "muted", "aria-hidden": "true" }, "Differences are told"), segmented("Differences", SCALES, this.scale, change)), cards];
  }

  metricCard(metric) {
    const control = this.control();
    const compared = metric.groups.filter(({ group, difference }) => group !== control && difference);
    const tell = saying(metric);
    const isRelative = this.scale === "relative";
    const [of, told, unit] = isRelative ? [(read) => read.relative, relative, "in parts of its mean"] : [(read) => read.difference, tell.difference, tell.unit];
    const rows = compared.filter(of).map((read) => ({ name: read.group, ...of(read), side: sideOf(read), told: wordsOf(read, of(read), told) }));
    const unsaid = metric.groups.length - 1 - compared.length;
    const none = isRelative && compared.length > 0 ? `The mean of ${control} is not above 0, so nothing can be told in parts of it.` : "Groups are too small for a difference to be told.";
    return h(
      "section",
      { class: "card" },
      h("header", { class: "card-head" }, h("h2", { class: "grow wrap" }, metric.metric)),
      h(
        "div",
        { class: "card-body" },
        rows.length > 0
          ? intervalChart({ label: `${metric.metric}, difference to ${control} with intervals of ${percent(this.answer.confidence)}`, rows, format: told, unit: `difference to ${control}, ${unit}` })
          : h("p", { class: "muted" }, none),
        unsaid > 0 && rows.length > 0 && h("p", { class: "muted note" }, `${count(unsaid, "group")} too small for a difference to be told.`),
      ),
      this.metricTable(metric, control, tell),
    );
  }

  /// The name of the group that others are compared with.
  control() {
    return this.body.control ?? this.answer.groups[0].name;
  }

  metricTable(metric, control, tell) {
    const interval = (one, told) => one && [h("span", { class: "estimate" }, told(one.estimate)), h("span", { class: "muted small between" }, `${told(one.low)} to ${told(one.high)}`)];
    return table({
      label: `Groups by ${metric.metric}`,
      dense: true,
      rows: metric.groups,
      key: (read) => read.group,
      columns: [
        { title: "Group", header: true, cell: ({ group }) => h("span", { class: "wrap" }, group) },
        { title: "Users with any", number: true, wide: true, cell: ({ users }) => integer(users) },
        ...(metric.measure === "users" ? [] : [{ title: "Total", number: true, wide: true, cell: ({ total }) => decimal(total) }]),
        { title: metric.measure === "users" ? "Share" : "Mean", number: true, cell: ({ mean, error }) => h("span", { title: error === undefined ? null : `standard error ${tell.value(error)}` }, tell.value(mean)) },
        { title: "Difference", number: true, cell: ({ group, difference }) => (group === control ? chip("control") : (interval(difference, tell.difference) ?? "–")) },
        { title: "Relative", number: true, wide: true, cell: (read) => interval(read.relative, relative) ?? "–" },
        { title: "p", number: true, cell: ({ p_value: p }) => (p === undefined ? "–" : chance(p)) },
        { title: "q", number: true, wide: true, cell: ({ q_value: q }) => (q === undefined ? "–" : chance(q)) },
        { title: "Reads as", wide: true, cell: (read) => (read.difference ? chip(READS[sideOf(read)], sideOf(read) === "none" ? null : "accent") : "") },
      ],
    });
  }

  reading() {
    return h("p", { class: "muted note" }, "Every user of a group counts, also those who did nothing. q is p corrected for all groups and metrics shown: of those up to 0.05 one in twenty is expected to be chance. A p-value is meant for one look at the end.");
  }
}

const probability = (p) => `p ${p < 0.0001 ? "" : "= "}${chance(p)}`;

const relative = (value) => signed(value, (size) => `${decimal(size * 100)} %`);

/// Which way a difference goes, if it is sure enough.
function sideOf({ difference, q_value: q }) {
  if (q === undefined || q > SURE) return "none";
  return difference.estimate > 0 ? "over" : "under";
}

const READS = { over: "more", under: "less", none: "may be chance" };

/// A difference in words.
const wordsOf = (read, { estimate, low, high }, told) => `${told(estimate)}, from ${told(low)} to ${told(high)}, ${READS[sideOf(read)]}`;

/// How values of a metric are told.
function saying({ measure, metric }) {
  if (measure === "users") return { value: percent, difference: (value) => signed(value, (size) => `${decimal(size * 100)} pp`), unit: "percentage points of its users" };
  const unit = measure === "events" ? "events a user" : `${/^sum\((.*?)\)/.exec(metric)?.[1] ?? "sum"} a user`;
  return { value: digits, difference: (value) => signed(value, digits), unit };
}
