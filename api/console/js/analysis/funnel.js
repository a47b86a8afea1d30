// Funnel: how many users did some steps in order, and who stopped where.

import { Latest, post } from "../core/api.js";
import { tagFields } from "../core/catalog.js";
import { debounced, fill, h } from "../core/dom.js";
import { compact, count, integer, microseconds, percent } from "../core/format.js";
import { funnelChart } from "../charts/steps.js";
import { audienceField } from "../components/audience_field.js";
import { button } from "../components/button.js";
import { card, figure } from "../components/page.js";
import { spanField } from "../components/span.js";
import { empty, failed, loading, told } from "../components/state.js";
import { table } from "../components/table.js";
import { keepUsers } from "./keep.js";
import { readStep, stepEditor, writeStep } from "./step.js";

const EDIT_MS = 200;
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

class Funnel {
  #asking = new Latest();

  constructor(root, params, context, facts, tags) {
    Object.assign(this, { root, context, facts, tags });
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    this.asked = { window: read("window", WINDOW), within: read("within"), where: read("where"), by: read("by"), mode: read("mode").split(",").filter((mode) => MODES.some(([known]) => known === mode)) };
    this.runSoon = debounced(() => this.run(), EDIT_MS);
    context.signal.addEventListener("abort", () => this.runSoon.cancel());
    const steps = params.getAll("step").map(readStep);
    while (steps.length < 2) steps.push({ fact: "", where: "" });
    this.steps = steps.map((step) => this.makeStep(step));
  }

  makeStep(step) {
    const tool = (name, label, onClick) => button("", { kind: "quiet", name, label, onClick });
    const up = tool("up", "Move up", () => this.move(editor, -1));
    const down = tool("down", "Move down", () => this.move(editor, 1));
    const remove = tool("close", "Remove the step", () => this.remove(editor));
    const number = h("span", { class: "step-number", "aria-hidden": "true" });
    const editor = stepEditor(step, { label: "Step", facts: this.facts, changed: () => this.runSoon(), tools: h("div", { class: "step-tools" }, up, down, remove) });
    editor.prepend(number);
    editor.place = (at, of) => {
      editor.rename(`Step ${at + 1}`);
      fill(number, String(at + 1));
      up.disabled = at === 0;
      down.disabled = at === of - 1;
      remove.disabled = of === 1;
    };
    editor.tools = { up, down, remove };
    return editor;
  }

  show() {
    const { asked } = this;
    const change = (key) => (value) => {
      asked[key] = value;
      this.runSoon();
    };
    this.list = h("ol", { class: "steps" });
    this.adder = button("Step", { kind: "quiet", name: "plus", onClick: () => this.add() });
    this.said = h("p", { class: "unseen", role: "status" });
    this.window = spanField({ label: "All steps within", value: asked.window, units: ["days", "seconds", "minutes", "hours", "weeks"], onChange: change("window") });
    this.within = spanField({ label: "Events of", value: asked.within, units: ["days", "hours", "weeks", "months", "years"], otherwise: "any time", onChange: change("within") });
    this.whom = audienceField({ label: "Of whom", value: asked.where, onChange: change("where") });
    const by = h("select", { class: "select select-wide", on: { change: () => change("by")(by.value) } }, h("option", { value: "" }, "nothing"), this.tags.map(({ name }) => h("option", { value: name, selected: name === asked.by }, name)));
    this.byProblem = h("p", { class: "audience-problem", role: "alert", hidden: true });
    const mode = ([name, text, title]) => h("label", { class: "check", title }, h("input", { type: "checkbox", checked: asked.mode.includes(name), on: { change: (event) => change("mode")(event.target.checked ? [...asked.mode, name] : asked.mode.filter((other) => other !== name)) } }), text);
    this.result = h("div", { class: "stack" });
    fill(
      this.root,
      h(
        "section",
        { class: "card analysis-form", "aria-label": "What is asked" },
        this.list,
        h("div", { class: "row-actions" }, this.adder),
        this.said,
        h("div", { class: "settings" }, this.whom, this.window, this.within, h("div", { class: "field" }, h("label", {}, h("span", { class: "field-label" }, "Told apart by"), by), this.byProblem)),
        h("fieldset", { class: "modes" }, h("legend", { class: "field-label" }, "Order"), MODES.map(mode)),
      ),
      this.result,
    );
    this.placeSteps();
    this.run();
  }

  placeSteps() {
    fill(this.list, this.steps.map((step) => h("li", {}, step)));
    this.steps.forEach((step, at) => step.place(at, this.steps.length));
    this.adder.disabled = this.steps.length >= STEPS_MAX;
  }

  add() {
    const step = this.makeStep({ fact: "", where: "" });
    this.steps.push(step);
    this.placeSteps();
    requestAnimationFrame(() => step.querySelector("select")?.focus());
  }

  remove(step) {
    const at = this.steps.indexOf(step);
    this.steps = this.steps.filter((other) => other !== step);
    this.placeSteps();
    const next = this.steps[Math.min(at, this.steps.length - 1)];
    (next.tools.remove.disabled ? this.adder : next.tools.remove).focus();
    fill(this.said, `Step ${at + 1} is removed`);
    this.runSoon();
  }

  move(step, by) {
    const at = this.steps.indexOf(step);
    this.steps.splice(at, 1);
    this.steps.splice(at + by, 0, step);
    this.placeSteps();
    const [wanted, other] = by < 0 ? [step.tools.up, step.tools.down] : [step.tools.down, step.tools.up];
    (wanted.disabled ? other : wanted).focus();
    fill(this.said, `Now step ${at + by + 1} of ${this.steps.length}`);
    this.runSoon();
  }

  async run() {
    const { asked } = this;
    this.runSoon.cancel();
    this.result.setAttribute("aria-busy", "true");
    if (!this.answer) fill(this.result, loading(6));
    for (const place of [...this.steps, this.whom, this.window, this.within]) place.showProblem(null);
    this.byProblem.hidden = true;
    let editors = [];
    try {
      const found = await this.#asking.run(async (signal) => {
        const read = await Promise.all(this.steps.map((step) => step.read(signal)));
        signal.throwIfAborted();
        editors = this.steps.filter((_, at) => read[at]);
        const steps = read.filter(Boolean);
        this.context.note({ step: steps.map(writeStep), window: asked.window === WINDOW ? null : asked.window, within: asked.within, where: asked.where, by: asked.by, mode: asked.mode.join(",") });
        if (steps.length === 0) return { answer: null };
        const body = { steps, window: asked.window };
        for (const key of ["within", "where", "by"]) if (asked[key]) body[key] = asked[key];
        if (asked.mode.length) body.mode = asked.mode;
        return { body, answer: await post("/v1/funnel", body, { signal }) };
      }, this.context.signal);
      if (!found) return;
      Object.assign(this, found);
      if (this.answer) this.showAnswer();
      else fill(this.result, empty("Choose the first step", "A funnel tells how many users did some steps in order: a visit, then a purchase."));
    } catch (error) {
      this.answer = null;
      this.showProblem(error, editors);
    } finally {
      if (!this.#asking.isRunning) this.result.removeAttribute("aria-busy");
    }
  }

  /// Shows what is wrong where it stands.
  showProblem(error, editors) {
    const [, field, at] = /^\/(steps|where|window|within|by)(?:\/(\d+))?/.exec(error.pointer ?? "") ?? [];
    const place = { steps: editors[at], where: this.whom, window: this.window, within: this.within }[field];
    if (!place && field !== "by") return fill(this.result, failed(error, () => this.run()));
    if (place) place.showProblem(error, this.asked.where);
    else {
      this.byProblem.hidden = false;
      fill(this.byProblem, told(error));
    }
    return fill(this.result, empty("Nothing to show", "What is marked has to be right first."));
  }

  showAnswer() {
    const { steps, groups, events, epoch, elapsed_us: elapsed } = this.answer;
    const [first, last] = [steps[0], steps.at(-1)];
    const worst = steps.slice(0, -1).reduce((most, step) => (step.stopped > (most?.stopped ?? 0) ? step : most), null);
    fill(
      this.result,
      h(
        "section",
        { class: "card" },
        h(
          "div",
          { class: "card-body figures" },
          figure("Began", integer(first.users), "did the first step"),
          figure("Came through", integer(last.users), last.of_first === null ? "nobody began" : `${percent(last.of_first)} did all of it`),
          worst && figure("Most stop", integer(worst.stopped), `after step ${steps.indexOf(worst) + 1}, ${shorter(worst.name)}`),
          figure("Epoch", integer(epoch), `exact · ${count(events, "event")} · ${microseconds(elapsed)}`),
        ),
      ),
      first.users === 0 ? empty("Nobody did the first step", "Look at a longer time, or at other events.") : [card("Steps", [funnelChart(steps), legend()]), this.stepsCard(steps), groups && this.groupsCard(steps, groups)],
    );
  }

  stepsCard(steps) {
    const rows = steps.map((step, at) => ({ ...step, at, isLast: at === steps.length - 1 }));
    const kept = (users, label, save) => h("span", { class: "kept" }, h("span", {}, integer(users)), users > 0 && h("button", { type: "button", class: "button button-quiet keep", "aria-label": label, title: label, on: { click: save } }, "Keep"));
    return h(
      "section",
      { class: "card" },
      h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Who came how far"), h("p", {}, "Keep makes an audience of them")),
      table({
        label: "Steps of the funnel",
        rows,
        key: (row) => row.at,
        columns: [
          { title: "Step", header: true, cell: (row) => h("span", { class: "step-name", title: row.name }, h("span", { class: "step-number" }, String(row.at + 1)), h("span", { class: "step-words" }, h("span", { class: "clip" }, row.name), row.of_previous !== null && row.at > 0 && h("span", { class: "narrow muted small" }, `${percent(row.of_previous)} of step ${row.at}`))) },
          { title: "Of the first", number: true, wide: true, cell: (row) => (row.of_first === null ? "–" : percent(row.of_first)) },
          { title: "Of the step before", number: true, wide: true, cell: (row) => (row.at === 0 || row.of_previous === null ? "–" : percent(row.of_previous)) },
          { title: "Came so far", number: true, cell: (row) => kept(row.users, `Keep the ${count(row.users, "user")} who came to step ${row.at + 1}`, () => this.keep(row, false)) },
          { title: "Stopped here", number: true, cell: (row) => (row.isLast ? "–" : kept(row.stopped, `Keep the ${count(row.stopped, "user")} who stopped at step ${row.at + 1}`, () => this.keep(row, true))) },
        ],
      }),
    );
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

const shorter = (name) => (name.length > 60 ? `${name.slice(0, 59)}…` : name);

const legend = () => h("p", { class: "muted note legend" }, h("span", { class: "legend-bar" }), "came so far", h("span", { class: "legend-bar legend-lost" }), "of the step before", h("span", { class: "legend-gap" }), "→ share of the step before; above, share of the first");
