// How much audiences share, pair by pair.

import { Latest, isAbort, post } from "../core/api.js";
import { audiences } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { compact, integer, microseconds, percent, quoted } from "../core/format.js";
import { address, go } from "../core/router.js";
import { heatMap } from "../charts/heat.js";
import { linkButton, segmented } from "../components/button.js";
import { combobox, filtered } from "../components/combobox.js";
import { card } from "../components/page.js";
import { empty, failed, loading } from "../components/state.js";

const AT_FIRST = 8;
const MEASURES = {
  row: { text: "Share of row", value: (counts, i, j) => (counts[i][i] ? counts[i][j] / counts[i][i] : 0), format: percent, about: "How much of the audience at the left is in the one above." },
  jaccard: { text: "Jaccard", value: (counts, i, j) => { const either = counts[i][i] + counts[j][j] - counts[i][j]; return either ? counts[i][j] / either : 0; }, format: (value) => (Number.isNaN(value) ? "–" : value.toFixed(3)), about: "Users in both, divided by users in either." },
  count: { text: "Users", value: (counts, i, j) => counts[i][j] / Math.max(1, ...counts.flat().filter(Number.isFinite)), format: null, about: "Users in both." },
};

export async function mountOverlap(root, params, context) {
  const latest = new Latest();
  const result = h("div", {}, loading(6));
  const saved = await audiences().catch((error) => error);
  if (saved instanceof Error) return isAbort(saved) || fill(root, failed(saved));
  if (saved.length < 2) return fill(root, empty("Two audiences are needed", "Save two or more, and see how much they share.", linkButton("Build an audience", address("audience"), { kind: "primary" })));
  let chosen = (params.get("of") ?? "").split(",").filter((name) => saved.some((one) => one.name === name));
  if (chosen.length === 0) chosen = saved.slice(0, AT_FIRST).map((one) => one.name);
  let measure = MEASURES[params.get("measure")] ? params.get("measure") : "row";
  let answer = null;
  const choose = combobox({ label: "Audiences", placeholder: "Choose audiences", multiple: true, values: chosen, options: (query) => filtered(saved.map(({ name, description, where }) => ({ value: name, detail: description || where })), query), onChange: (names) => { chosen = names; run(); } });
  fill(root, h("section", { class: "card query" }, h("div", { class: "field query-wide" }, h("span", { class: "field-label" }, "Audiences"), choose)), result);

  const show = () => {
    // What is worked out from few users is nothing.
    const counts = answer.counts.map((row) => row.map((count) => count ?? NaN));
    const of = MEASURES[measure];
    context.note({ of: chosen.join(","), measure: measure === "row" ? null : measure });
    fill(
      result,
      card(
        "Overlap",
        [
          h("p", { class: "muted note" }, `${of.about} Epoch ${integer(answer.epoch)}, exact, ${microseconds(answer.elapsed_us)}. A cell opens the users in both.`),
          heatMap({
            label: `${of.text} of ${chosen.length} audiences`,
            names: answer.audiences,
            cell: (i, j) => {
              const value = of.value(counts, i, j);
              const text = i === j || !of.format ? compact(counts[i][j]) : of.format(value);
              return { value: i === j || Number.isNaN(value) ? 0 : value, text, title: `${answer.audiences[i]} and ${answer.audiences[j]}: ${integer(counts[i][j])} users in both` };
            },
            onCell: (i, j) => go("audience", { where: [...new Set([i, j])].map((at) => `in_audience(${quoted(answer.audiences[at])})`).join(" AND ") }),
          }),
        ],
        segmented("Measure", Object.entries(MEASURES).map(([name, { text }]) => [name, text]), measure, (next) => { measure = next; show(); result.querySelector(`input[value="${next}"]`)?.focus(); }),
      ),
    );
  };

  const run = async () => {
    latest.cancel();
    if (chosen.length < 2) return fill(result, empty("Choose another", "An overlap is of two audiences or more."));
    try {
      const named = Object.fromEntries(chosen.map((name) => [name, `in_audience(${quoted(name)})`]));
      const got = await latest.run((signal) => post("/v1/overlap", { audiences: named }, { signal }), context.signal);
      if (!got) return;
      answer = got;
      show();
    } catch (error) {
      fill(result, failed(error, run));
    }
  };
  run();
}
