// Lookalike: from a seed to the users most like it; how many, how alike, how well it works.

import { Latest, inParallel, isAbort, path, post, put } from "../core/api.js";
import { catalog, forget } from "../core/catalog.js";
import { debounced, fill, h } from "../core/dom.js";
import { compact, decimal, integer, microseconds, percent } from "../core/format.js";
import { address, go } from "../core/router.js";
import { lineChart } from "../charts/line.js";
import { audienceField } from "../components/audience_field.js";
import { button, linkButton } from "../components/button.js";
import { ask, field } from "../components/dialog.js";
import { naming } from "../components/naming.js";
import { card, figure, pageHead } from "../components/page.js";
import { empty, failed, loading } from "../components/state.js";
import { table } from "../components/table.js";
import { toast } from "../components/toast.js";
import { showUser } from "../components/user.js";

const SLIDER_STEPS = 400;
const SIZE_LEAST = 10;
const CURVE_POINTS = 12;
const USERS_SHOWN = 200;
const METHODS = [["", "whichever finds hidden users best"], ["mean", "mean of the seed"], ["linear", "linear model"], ["8", "8 prototypes"], ["32", "32 prototypes"]];

export async function mount(root, params, context) {
  const head = pageHead("Lookalike", "From a seed audience to the users most like it, by their vectors.");
  fill(root, head, loading(6));
  const document = await catalog().catch((error) => error);
  if (document instanceof Error) return isAbort(document) || fill(root, head, failed(document, () => mount(root, params, context)));
  const spaces = Object.keys(document.spaces ?? {});
  if (spaces.length === 0) return fill(root, head, empty("No vector space yet", "Declare a space in the catalog and send vectors of users: then anybody can be compared with anybody.", linkButton("Catalog", address("catalog"))));
  new Lookalike(root, head, params, context, document.spaces).show();
}

class Lookalike {
  #asking = new Latest();
  #curving = new Latest();

  constructor(root, head, params, context, spaces) {
    Object.assign(this, { root, head, context, spaces });
    const read = (key, otherwise = "") => params.get(key) ?? otherwise;
    this.asked = { space: spaces[read("space")] ? read("space") : Object.keys(spaces)[0], seed: read("seed"), size: Math.max(SIZE_LEAST, Number(read("size", "1000")) || 1_000), within: read("within"), exclude: read("exclude"), method: read("method"), include: params.has("include") };
    this.candidates = null;
    this.curve = [];
    this.runSoon = debounced(() => this.run(), 250);
    context.signal.addEventListener("abort", () => this.runSoon.cancel());
  }

  show() {
    const { asked } = this;
    const change = (key) => (value) => {
      asked[key] = value;
      this.isStale = true;
      // The curve is of the question before.
      this.#curving.cancel();
      this.run();
    };
    const select = (label, options, value, onChange) => {
      const element = h("select", { class: "select select-wide", on: { change: () => onChange(element.value) } }, options.map(([option, text]) => h("option", { value: option, selected: option === value }, text)));
      return field(label, element);
    };
    this.fields = {
      seed: audienceField({ label: "Seed: like whom", value: asked.seed, otherwise: "Choose an audience", onChange: change("seed") }),
      within: audienceField({ label: "Only of", value: asked.within, onChange: change("within") }),
      exclude: audienceField({ label: "And not of", value: asked.exclude, otherwise: "Nobody", onChange: change("exclude") }),
    };
    this.slider = h("input", { type: "range", min: "0", max: String(SLIDER_STEPS), "aria-label": "How many users", on: { input: () => { this.setSize(this.sizeAt(Number(this.slider.value))); this.runSoon(); } } });
    this.number = h("input", { class: "input input-number", inputmode: "numeric", "aria-label": "How many users, exactly", on: { change: () => { this.setSize(Number(this.number.value.replaceAll(/\D/g, "")) || SIZE_LEAST); this.run(); } } });
    this.sizeNote = h("span", { class: "muted small" });
    this.result = h("div", { class: "stack" });
    this.curvePlace = h("div", {});
    fill(
      this.root,
      this.head,
      h(
        "div",
        { class: "split" },
        h(
          "section",
          { class: "card form" },
          this.fields.seed,
          select("Vector space", Object.entries(this.spaces).map(([name, space]) => [name, `${name} (${space.dimension} numbers, ${space.metric})`]), asked.space, change("space")),
          this.fields.within,
          this.fields.exclude,
          select("Likeness is learned by", METHODS, asked.method, change("method")),
          h("label", { class: "check" }, h("input", { type: "checkbox", checked: asked.include, on: { change: (event) => change("include")(event.target.checked) } }), "Users of the seed may be found, too"),
          h("div", { class: "field" }, h("div", { class: "row-flex" }, h("span", { class: "field-label grow" }, "How many"), this.number), this.slider, this.sizeNote),
        ),
        this.result,
      ),
    );
    this.setSize(asked.size);
    this.run();
  }

  /// The slider is logarithmic: from ten users to all there are to choose from.
  sizeAt(step) {
    const most = Math.max(SIZE_LEAST + 1, this.candidates ?? 100_000);
    const exact = SIZE_LEAST * (most / SIZE_LEAST) ** (step / SLIDER_STEPS);
    const round = 10 ** Math.max(0, Math.floor(Math.log10(exact)) - 1);
    return Math.min(most, Math.round(exact / round) * round);
  }

  setSize(size) {
    this.asked.size = Math.max(1, size);
    this.number.value = integer(this.asked.size);
    const most = Math.max(SIZE_LEAST + 1, this.candidates ?? 100_000);
    this.slider.value = String(Math.round((Math.log(Math.max(SIZE_LEAST, size) / SIZE_LEAST) / Math.log(most / SIZE_LEAST)) * SLIDER_STEPS));
    this.slider.setAttribute("aria-valuetext", `${integer(this.asked.size)} users`);
    fill(this.sizeNote, this.candidates ? `the most similar ${percent(this.asked.size / this.candidates)} of ${integer(this.candidates)} users with a vector` : "");
    this.chart?.repaint();
  }

  body(more) {
    const { space, seed, within, exclude, method, include } = this.asked;
    const body = { space, seed, ...more };
    if (within) body.within = within;
    if (exclude) body.exclude = exclude;
    if (include) body.include_seed = true;
    if (/^\d+$/.test(method)) body.prototypes = Number(method);
    else if (method) body.method = method;
    return body;
  }

  async run() {
    const { asked } = this;
    this.context.note({ ...asked, size: asked.size === 1_000 ? null : asked.size, include: asked.include ? "1" : null });
    Object.values(this.fields).forEach((one) => one.showProblem(null));
    this.runSoon.cancel();
    this.#asking.cancel();
    if (!asked.seed) return fill(this.result, empty("Choose a seed", "A saved audience, or any expression: those whose likes you look for. A few hundred users are a good seed."));
    if (this.result.childElementCount === 0 || this.isStale) fill(this.result, loading(8));
    this.result.setAttribute("aria-busy", "true");
    try {
      const answer = await this.#asking.run((signal) => post("/v1/lookalike", this.body({ size: asked.size, holdout: true, limit: USERS_SHOWN }), { signal }), this.context.signal);
      if (!answer) return;
      const isOther = this.isStale !== false || this.candidates !== answer.candidates;
      this.isStale = false;
      this.candidates = answer.candidates;
      this.setSize(Math.min(asked.size, Math.max(1, answer.candidates)));
      this.answer = answer;
      if (isOther) this.drawCurve();
      this.showAnswer();
    } catch (error) {
      const key = (error.pointer ?? "").replace("/", "");
      this.fields[key]?.showProblem(error);
      fill(this.result, failed(error, () => this.run()));
      this.isStale = true;
    } finally {
      if (!this.#asking.isRunning) this.result.removeAttribute("aria-busy");
    }
  }

  showAnswer() {
    const { answer } = this;
    const { holdout } = answer;
    const best = answer.users[0]?.score ?? 1;
    const worst = answer.at_least ?? answer.users.at(-1)?.score ?? 0;
    const width = (score) => `${Math.max(2, best === worst ? 100 : ((score - worst) / (best - worst)) * 96 + 4)}%`;
    fill(
      this.result,
      card(
        "Found",
        [
          h(
            "div",
            { class: "figures" },
            figure("Users", integer(answer.count), answer.count < answer.wanted ? `of ${integer(answer.wanted)} asked for: there are no more` : `of ${integer(answer.candidates)} candidates`),
            figure("Seed", integer(answer.seed_users), answer.seed_with_vector < answer.seed_users ? `${integer(answer.seed_with_vector)} with a vector` : "all with a vector"),
            holdout && figure("Hidden users found", percent(holdout.hidden ? holdout.found / holdout.hidden : 0), `${integer(holdout.found)} of ${integer(holdout.hidden)}${holdout.lift === null || holdout.lift === undefined ? "" : `, ${decimal(holdout.lift)} times as by chance`}`),
            holdout && figure("Ranked right", percent(holdout.area_under_curve), "hidden user before another; 50 % is chance"),
          ),
          h("p", { class: "muted note" }, `Learned by ${learned(answer.method)}. Epoch ${integer(answer.epoch)}, ${answer.cells ? "found by cells" : "exact"}, ${microseconds(answer.elapsed_us)}.`),
        ],
        button("Who they are", { name: "insight", onClick: () => go("insight", { where: answer.expression }) }),
        button("Save", { kind: "primary", name: "save", onClick: () => this.save() }),
      ),
      card("Size against similarity", [this.curvePlace, h("p", { class: "muted note" }, "The score that the last user has, for each size. Scores compare within one question only.")]),
      card(
        "Most alike",
        h("div", { class: "flush" }, table({
          label: "Users found",
          dense: true,
          pageRows: 20,
          rows: answer.users.map((user, at) => ({ ...user, rank: at + 1 })),
          onRow: (user) => showUser(user.user_id),
          columns: [
            { title: "Rank", wide: true, number: true, width: "64px", cell: (user) => integer(user.rank) },
            { title: "User", header: true, mono: true, cell: (user) => h("span", { class: "mono" }, user.user_id) },
            { title: "", unseen: "Score as a bar", width: "40%", cell: (user) => h("span", { class: "bar bar-found", "aria-hidden": "true" }, h("span", { class: "bar-fill", style: { width: width(user.score) } })) },
            { title: "Score", number: true, cell: (user) => user.score.toFixed(4) },
          ],
        })),
      ),
    );
  }

  /// Asks for the score at a few sizes, one after the other; the curve grows meanwhile.
  async drawCurve() {
    this.curve = [];
    const { candidates, answer } = this;
    if (answer.at_least !== null && answer.at_least !== undefined) this.curve.push([answer.count, answer.at_least]);
    if (answer.users.length) this.curve.push([1, answer.users[0].score]);
    this.chart = lineChart({
      label: "Similarity of the last user by size",
      points: () => [...this.curve].sort(([a], [b]) => a - b),
      range: () => [1, Math.max(2, candidates)],
      format: { x: compact, y: (value) => value.toFixed(2) },
      unit: { x: "users", y: "score of the last user" },
      log: true,
      mark: () => Math.min(this.asked.size, candidates),
      height: 220,
    });
    fill(this.curvePlace, this.chart);
    const most = candidates - 1;
    const sizes = Array.from({ length: CURVE_POINTS }, (_, at) => Math.round(SIZE_LEAST * (most / SIZE_LEAST) ** (at / (CURVE_POINTS - 1))));
    const wanted = [...new Set(sizes)].filter((size) => size >= 1 && size <= most);
    // The way of learning is settled: trying all of them again at each size would only take longer.
    const [, prototypes, method] = /prototypes\D*(\d+)|(mean|linear)/.exec(answer.method) ?? [];
    await this.#curving
      .run((signal) =>
        inParallel(wanted, 1, async (size) => {
          const body = this.body({ size, limit: 1 });
          if (prototypes) body.prototypes = Number(prototypes);
          else if (method) body.method = method;
          const { at_least: score } = await post("/v1/lookalike", body, { signal });
          if (score === null || score === undefined) return;
          this.curve.push([size, score]);
          this.chart.repaint(`Similarity of the last user by size, at ${this.curve.length} sizes from 1 to ${integer(candidates)}`);
        }), this.context.signal)
      .catch((error) => toast(`The curve is not complete: ${error.message}`, { kind: "bad" }));
  }

  async save() {
    const name = naming();
    const { expression: where, count } = this.answer;
    const description = `${integer(count)} users like the seed, in ${this.asked.space}`;
    const saved = await ask({
      title: "Save as an audience",
      text: "The question is kept: whoever is most alike whenever it is asked.",
      content: [name.field, name.agreement],
      onSubmit: (signal) => name.keep((wanted, headers) => put(path`/v1/audiences/${wanted}`, { where, description }, { headers, signal })),
    });
    if (!saved) return;
    forget("audiences");
    toast(`Saved ${saved.name}`, { action: linkButton("Open", address("audience", { name: saved.name })) });
  }
}

/// A way of learning as people call it; the answer has it as the audience language writes it.
function learned(method) {
  const [, prototypes, name] = /prototypes\D*(\d+)|(mean|linear)/.exec(method) ?? [];
  if (prototypes) return `${prototypes} prototypes of the seed`;
  return { mean: "the mean of the seed", linear: "a linear model of the seed against others" }[name] ?? method;
}
