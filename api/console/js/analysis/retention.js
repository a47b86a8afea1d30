// Retention: users by the period of their first event, and how many of them came back in each period from then on.

import { post } from "../core/api.js";
import { fill, h } from "../core/dom.js";
import { count, decimal, integer, percent } from "../core/format.js";
import { cohortGrid, during, later, named } from "../charts/cohorts.js";
import { lineChart } from "../charts/line.js";
import { audienceField } from "../components/audience_field.js";
import { button, segmented } from "../components/button.js";
import { inputField, labelled } from "../components/fields.js";
import { card, figure } from "../components/page.js";
import { empty } from "../components/state.js";
import { keepUsers } from "./keep.js";
import { readStep, stepEditor, writeStep } from "./step.js";
import { View, wholeNumber } from "./view.js";

const EVERY = [["day", "Day"], ["week", "Week"], ["month", "Month"]];
const PERIODS = { day: "14", week: "8", month: "6" };
const MEASURES = [["share", "Share"], ["users", "Users"]];

export function mountRetention(root, params, context, facts) {
  new Retention(root, params, context, facts).show();
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

class Retention extends View {
  path = "/v1/retention";

  constructor(root, params, context, facts) {
    super(root, context);
    this.facts = facts;
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    const one = (key, options, otherwise) => (options.some(([known]) => known === params.get(key)) ? params.get(key) : otherwise);
    const every = one("every", EVERY, "week");
    this.asked = { every, periods: read("periods", PERIODS[every]), until: read("until"), where: read("where") };
    this.measure = one("measure", MEASURES, "share");
    this.given = { first: read("first", facts[0]), back: read("back") };
  }

  show() {
    const { asked, facts, given } = this;
    const step = (key, label, none) => stepEditor(readStep(given[key]), { label, facts, none, changed: () => this.runSoon() });
    const changeEvery = (every) => {
      // How many there are to be is kept if somebody said it.
      if (asked.periods === PERIODS[asked.every]) {
        asked.periods = PERIODS[every];
        this.fields.periods.setValue(asked.periods);
      }
      asked.every = every;
      this.chosen = null;
      this.run();
    };
    this.fields = {
      first: step("first", "Begins with", "choose what"),
      back: step("back", "Comes back with", "the same event"),
      where: audienceField({ label: "Of whom", value: asked.where, onChange: this.change("where") }),
      periods: inputField({ label: "Periods", value: asked.periods, inputmode: "numeric", class: "input input-short", onInput: this.change("periods") }),
      until: inputField({ label: "Up to (today)", value: asked.until, type: "date", class: "input input-time", onInput: this.change("until") }),
    };
    const { first, back, where, periods, until } = this.fields;
    this.open(
      h("div", { class: "step-pair" }, labelled("Begins with", first), labelled("Comes back with", back)),
      h("div", { class: "settings" }, where, labelled("By", segmented("By", EVERY, asked.every, changeEvery)), periods, until),
    );
  }

  async question(signal) {
    const { asked } = this;
    const [first, back] = await Promise.all([this.fields.first.read(signal), this.fields.back.read(signal)]);
    signal.throwIfAborted();
    this.told = { first: first && writeStep(first), back: back && writeStep(back) };
    this.note();
    if (!first) return null;
    const body = { first, every: asked.every, periods: wholeNumber(asked.periods, "periods", "Write how many periods there are to be, as 8.") };
    if (back) body.back = back;
    for (const key of ["until", "where"]) if (asked[key]) body[key] = asked[key];
    return body;
  }

  invitation() {
    return empty("Choose what users begin with", "Retention tells how many of those who began came back later.");
  }

  note() {
    const { every, periods, until, where } = this.asked;
    this.context.note({ ...this.told, every: every === "week" ? null : every, periods: periods === PERIODS[every] ? null : periods, until, where, measure: this.measure === "share" ? null : this.measure });
  }

  shown() {
    const { cohorts, rows_read: rows } = this.answer;
    const { every } = this.body;
    const users = cohorts.reduce((sum, cohort) => sum + cohort.users, 0);
    const curve = this.curve();
    const next = curve.find(([after]) => after === 1);
    return [
      this.figures([
        figure("Began", integer(users), `in ${count(cohorts.length, every)}`),
        next && figure(`Back 1 ${every} later`, percent(next[1]), "of all who began so long ago"),
      ], rows > 0 ? `${count(rows, "row")} read` : "from the activity index"),
      users === 0
        ? empty("Nobody began", "No user had the first event in these periods.")
        : [
          this.gridCard(),
          curve.length > 1 && card("How many stay", [this.curveChart(curve), h("p", { class: "muted note" }, `All cohorts together, each ${every} that is over.`)]),
        ],
    ];
  }

  gridCard() {
    const { cohorts } = this.answer;
    const { every } = this.body;
    const place = h("div", { class: "cell-place" });
    // The same cell of another answer stays chosen, if it is there.
    const [at, after, from] = this.chosen ?? [];
    if (cohorts[at]?.from !== from || cohorts[at]?.shares[after] === undefined) this.chosen = null;
    const grid = cohortGrid({
      label: `Users by the ${every} of their first event, and how many came back`,
      cohorts,
      every,
      measure: this.measure,
      isOpen: this.isOpen(),
      chosen: this.chosen,
      onCell: (row, column) => {
        this.chosen = [row, column, cohorts[row].from];
        this.showCell(place);
      },
    });
    this.showCell(place);
    return card(
      "Who came back",
      [grid, place],
      segmented("What cells say", MEASURES, this.measure, (measure) => { this.measure = measure; this.note(); grid.say(measure); }),
    );
  }

  /// The chosen cell in words, and its users as audiences.
  showCell(place) {
    if (!this.chosen) return fill(place, h("p", { class: "muted note" }, "Choose a cell to keep its users as an audience. A dashed one is of a period that is not over."));
    const [at, after] = this.chosen;
    const { cohorts } = this.answer;
    const { every } = this.body;
    const { from, users, back, shares } = cohorts[at];
    const lost = users - back[after];
    const isLast = this.isOpen() && at + after === cohorts.length - 1;
    const when = later(every, after);
    const keep = (text, isLost) => keepUsers(text, (audience, signal) => post("/v1/retention", { ...this.body, save_as: { audience, cohort: from, after, lost: isLost } }, { signal }));
    return fill(
      place,
      h(
        "div",
        { class: "cell-told" },
        h("p", { class: "grow", role: "status" }, h("strong", {}, capital(`${named(every, from)}, ${when}`)), `: ${integer(back[after])} of ${count(users, "user")} came back, ${percent(shares[after])}${isLast ? ` so far; the ${every} is not over yet` : ""}.`),
        button(`Keep the ${integer(back[after])} who came back`, { name: "save", disabled: back[after] === 0, onClick: () => keep(`${count(back[after], "user")} began ${during(every, from)} and came back ${when}.`, false) }),
        button(`Keep the ${integer(lost)} who did not`, { name: "save", disabled: lost === 0, onClick: () => keep(`${count(lost, "user")} began ${during(every, from)} and did not come back ${when}.`, true) }),
      ),
    );
  }

  /// Whether the last period goes on.
  isOpen() {
    const { every } = this.body;
    const end = new Date(`${this.answer.cohorts.at(-1).from}T00:00:00Z`);
    if (every === "month") end.setUTCMonth(end.getUTCMonth() + 1);
    else end.setUTCDate(end.getUTCDate() + (every === "week" ? 7 : 1));
    return end.getTime() > Date.now();
  }

  /// The share of all who came back after so many periods, of cohorts that are so old, in periods that are over: `[after, share]`.
  curve() {
    const { cohorts } = this.answer;
    const open = this.isOpen() ? 1 : 0;
    // Whoever begins with what counts as coming back is back at once: that says nothing.
    const isSelf = cohorts.every(({ users, back }) => back[0] === users);
    return cohorts.map((_, after) => {
      const old = cohorts.slice(0, Math.max(0, cohorts.length - after - open));
      const users = old.reduce((sum, cohort) => sum + cohort.users, 0);
      const back = old.reduce((sum, cohort) => sum + cohort.back[after], 0);
      return [after, users > 0 ? back / users : null];
    }).filter(([, share]) => share !== null).slice(isSelf ? 1 : 0);
  }

  curveChart(curve) {
    const { every } = this.body;
    return lineChart({
      label: `Share of users who came back. ${curve.map(([after, share]) => `${later(every, after)} ${percent(share)}`).join(", ")}`,
      points: () => curve,
      format: { x: (after) => String(after), y: (share) => `${decimal(share * 100)} %` },
      unit: { x: `${every}s later`, y: "share of users who came back" },
      xTicks: (low, high) => Array.from({ length: high - low + 1 }, (_, at) => low + at),
      fromZero: true,
      reaches: 0.01,
      height: 220,
    });
  }
}
