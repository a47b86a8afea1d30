// How a tag's values are spread: bars of shares with the baseline's share as a mark, and the index.

import { h } from "../core/dom.js";
import { compact, index, integer, percent } from "../core/format.js";
import { table } from "../components/table.js";

/// How much more often than in the baseline: over, under or as everywhere.
export function leaning(value) {
  if (value === null || value === undefined) return "none";
  return value >= 110 ? "over" : value <= 90 ? "under" : "even";
}

export function indexChip(value) {
  return h("span", { class: `index index-${leaning(value)}`, title: "Index: 100 times the share here over the share in the baseline" }, index(value));
}

/// A row's bar. `most` is the share that fills the whole width.
function bar(value, most) {
  const width = (share) => `${Math.min(100, most > 0 ? (share / most) * 100 : 0)}%`;
  const words = `${percent(value.share)}, baseline ${percent(value.baseline_share)}`;
  return h(
    "span",
    { class: `bar bar-${leaning(value.index)}`, role: "img", "aria-label": words, title: words },
    h("span", { class: "bar-fill", style: { width: width(value.share) } }),
    h("span", { class: "bar-mark", style: { left: width(value.baseline_share) } }),
  );
}

export function profileBars(tag, values) {
  const most = Math.max(...values.map((value) => Math.max(value.share, value.baseline_share)), 0);
  return table({
    label: `Values of ${tag}`,
    dense: true,
    pageRows: 12,
    rows: values,
    columns: [
      { title: titleOf(values), header: true, cell: (value) => h("span", { class: "profile-value clip", title: value.value }, value.tag ? h("span", { class: "muted" }, `${value.tag} `) : null, value.value) },
      { title: "", unseen: "Share and baseline", width: "34%", cell: (value) => bar(value, most) },
      { title: "Share", number: true, cell: (value) => percent(value.share) },
      { title: "Users", wide: true, number: true, cell: (value) => h("span", { title: integer(value.count) }, compact(value.count)) },
      { title: "Index", number: true, cell: (value) => indexChip(value.index) },
    ],
  });
}

const titleOf = (values) => (values.some((value) => value.tag) ? "Tag and value" : "Value");
