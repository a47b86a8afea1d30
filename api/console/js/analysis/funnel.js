// Funnel: how many users did some steps in order, and who stopped where.

import { post } from "../core/api.js";
import { tagFields } from "../core/catalog.js";
import { h } from "../core/dom.js";
import { compact, count, integer, percent, seconds, shorter } from "../core/format.js";
import { funnelChart } from "../charts/steps.js";
import { audienceField } from "../components/audience_field.js";
import { editorList } from "../components/editor_list.js";
import { check, selectField } from "../components/fields.js";
import { card, figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { empty } from "../components/state.js";
import { table } from "../components/table.js";
import { farCard } from "./far.js";
import { keepUsers } from "./keep.js";
import { readStep, stepEditor, writeStep } from "./step.js";
import { View, WITHIN_UNITS, WINDOW_UNITS } from "./view.js";

const STEPS_MAX = 32;
const WINDOW = "7 days";
const MODES = [
  ["strict_order", "Nothing out of turn", "Between two steps there is no other step that is out of turn"],
  ["strict_deduplication", "No repeats", "Between two steps there is none that was done already"],
  ["strict_increase", "Each step later", "Each step is later than the one before, never of the same moment"],
  ["strict_once", "An event is one step", "An event that fits several steps is taken for one of them only"],
];

export async function mountFunnel(root, params, context, facts) {
  const fields = await tagFields().catch(() => []);
  if (context.signal.aborted) return;
  new Funnel(root, params, context, facts, fields.filter((field) => field.type !== "number")).show();
}

class Funnel extends View {
  path = "/v1/funnel";

  constructor(root, params, context, facts, tags) {
    super(root, context);
    Object.assign(this, { facts, tags });
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    this.asked = { window: read("window", WINDOW), within: read("within"), where: read("where"), by: read("by"), mode: read("mode").split(",").filter((mode) => MODES.some(([known]) => known === mode)) };
    this.given = params.getAll("step").map(readStep);
    while (this.given.length < 2) this.given.push({});
  }

  show() {
    const { asked, facts } = this;
    const changed = () => this.runSoon();
    const names = this.tags.map(({ name }) => [name, name]);
    this.fields = {
      steps: editorList({ noun: "Step", values: this.given, most: STEPS_MAX, make: (step, tools) => stepEditor(step, { facts, changed, tools }), changed }),
      where: audienceField({ label: "Of whom", value: asked.where, onChange: this.change("where") }),
      window: spanField({ label: "All steps within", value: asked.window, units: WINDOW_UNITS, onChange: this.change("window") }),
      within: spanField({ label: "Events of", value: asked.within, units: WITHIN_UNITS, otherwise: "any time", onChange: this.change("within") }),
      by: selectField({ label: "Told apart by", value: asked.by, options: [["", "nothing"], ...names], onChange: this.change("by") }),
    };
    const { steps, where, window, within, by } = this.fields;
    const mode = ([name, text, title]) => check(text, asked.mode.includes(name), (isChosen) => this.change("mode")(isChosen ? [...asked.mode, name] : asked.mode.filter((other) => other !== name)), title);
    this.open(
      steps,
      h("div", { class: "settings" }, where, window, within, by),
      h("fieldset", { class: "modes" }, h("legend", { class: "field-label" }, "Order"), MODES.map(mode)),
    );
  }

  async question(signal) {
    const { asked } = this;
    const steps = await this.fields.steps.read(signal);
    this.context.note({ step: steps.map(writeStep), window: asked.window === WINDOW ? null : asked.window, within: asked.within, where: asked.where, by: asked.by, mode: asked.mode.join(",") });
    if (steps.length === 0) return null;
    const body = { steps, window: asked.window };
    for (const key of ["within", "where", "by"]) if (asked[key]) body[key] = asked[key];
    if (asked.mode.length) body.mode = asked.mode;
    return body;
  }

  invitation() {
    return empty("Choose the first step", "A funnel tells how many users did some steps in order: a visit, then a purchase.");
  }

  shown() {
    const { steps, groups } = this.answer;
    const [first, last] = [steps[0], steps.at(-1)];
    const worst = steps.slice(0, -1).reduce((most, step) => (step.stopped > (most?.stopped ?? 0) ? step : most), null);
    return [
      this.figures([
        figure("Began", integer(first.users), "did the first step"),
        figure("Came through", integer(last.users), last.of_first === null ? "nobody began" : `${percent(last.of_first)} did all of it`),
        worst && figure("Most stop", integer(worst.stopped), `after step ${steps.indexOf(worst) + 1}, ${shorter(worst.name)}`),
      ]),
      first.users === 0 ? empty("Nobody did the first step", "Look at a longer time, or at other events.") : [card("Steps", [funnelChart(steps), legend()]), this.stepsCard(steps), groups && this.groupsCard(steps, groups)],
    ];
  }

  stepsCard(steps) {
    const time = (key) => (row) => (row[key] === undefined ? "–" : seconds(row[key]));
    const others = [
      { title: "Median time", number: true, wide: true, cell: time("median_seconds") },
      { title: "9 of 10 within", number: true, wide: true, cell: time("p90_seconds") },
    ];
    return farCard({ label: "Steps of the funnel", noun: "step", steps, others, keep: (row, stopped) => this.keep(row, stopped) });
  }

  groupsCard(steps, groups) {
    const { by } = this.body;
    const isFlag = this.tags.find((tag) => tag.name === by)?.type === "flag";
    const named = ({ value }) => (isFlag ? (value === null ? "no" : "yes") : (value ?? h("span", { class: "muted" }, "without a value")));
    const share = ({ users }) => (users[0] > 0 ? users.at(-1) / users[0] : null);
    const most = Math.max(0, ...groups.map((group) => share(group) ?? 0));
    return h(
      "section",
      { class: "card" },
      h("header", { class: "card-head" }, h("h2", { class: "grow" }, `By ${by}`)),
      table({
        label: `Funnel by ${by}`,
        dense: true,
        pageRows: 20,
        rows: groups,
        key: (group) => group.value,
        columns: [
          { title: by, header: true, cell: named },
          ...steps.map((step, at) => ({ title: h("span", { title: step.name }, `Step ${at + 1}`), number: true, wide: at > 0 && at < steps.length - 1, cell: ({ users }) => h("span", { title: integer(users[at]) }, compact(users[at])) })),
          ...steps.slice(1).map((step, at) => ({ title: h("span", { title: `Median time to ${step.name}` }, `Time to ${at + 2}`), number: true, wide: true, cell: ({ median_seconds: times }) => (times[at + 1] === null ? "–" : seconds(times[at + 1])) })),
          { title: "All steps", number: true, cell: (group) => (share(group) === null ? "–" : percent(share(group))) },
          { title: "", unseen: "All steps as a bar", width: "26%", wide: true, cell: (group) => h("span", { class: "bar bar-found", "aria-hidden": "true" }, h("span", { class: "bar-fill", style: { width: `${most > 0 ? ((share(group) ?? 0) / most) * 100 : 0}%` } })) },
        ],
      }),
    );
  }

  keep(row, stopped) {
    const { body } = this;
    const users = stopped ? row.stopped : row.users;
    const text = stopped ? `${count(users, "user")} did all steps up to ${row.at + 1}, ${shorter(row.name)}, and not the next one.` : `${count(users, "user")} did all steps up to ${row.at + 1}, ${shorter(row.name)}.`;
    return keepUsers(text, (audience, signal) => post("/v1/funnel", { ...body, save_as: { audience, step: row.at + 1, stopped } }, { signal }));
  }
}

const legend = () => h("p", { class: "muted note legend" }, h("span", { class: "legend-bar" }), "came so far", h("span", { class: "legend-bar legend-lost" }), "of the step before", h("span", { class: "legend-gap" }), "→ share of the step before, and median time from it; above, share of the first");
