// The regions of audiences by size: dots for the audiences that each is in, a bar for its users. As readable of six audiences as of two.

import { h } from "../core/dom.js";
import { compact, integer, percent } from "../core/format.js";
import { table } from "../components/table.js";

export const LETTERS = ["A", "B", "C", "D", "E", "F"];

/// A region in words: whom it is in, and whom it is not in.
export function wordsOf(region, names) {
  const of = (wanted) => names.filter((_, at) => ((region.mask >> at) & 1) === wanted);
  const [inside, outside] = [of(1), of(0)];
  const all = inside.join(" and ");
  return outside.length === 0 ? all : `${all}, not ${outside.join(" or ")}`;
}

/// The same, for a row that has the others in its dots.
function shortWordsOf({ mask }, names) {
  const inside = names.filter((_, at) => (mask >> at) & 1);
  return inside.length === 1 ? `${inside[0]} only` : inside.join(" and ");
}

/// `regions` are `{ mask, count }`, bits by the order of `names`. `onRegion(region)` is called for one that is chosen, `onHover(mask)` for the one
/// that is looked at, 0 for none.
export function regionTable({ label, names, regions, onRegion, onHover }) {
  const most = Math.max(1, ...regions.map((region) => region.count));
  const all = regions.reduce((sum, region) => sum + region.count, 0);
  const dot = (region, at) => {
    const isIn = (region.mask >> at) & 1;
    return [h("span", { class: `dot-region ${isIn ? `dot-in set-dot-${at}` : ""}`, "aria-hidden": "true" }), h("span", { class: "unseen" }, isIn ? "yes" : "no")];
  };
  const root = table({
    label,
    dense: true,
    pageRows: 20,
    rows: [...regions].sort((a, b) => b.count - a.count),
    key: (region) => region.mask,
    onRow: onRegion,
    columns: [
      ...names.map((name, at) => ({ title: h("span", { title: name }, h("span", { "aria-hidden": "true" }, LETTERS[at]), h("span", { class: "unseen" }, name)), width: "1%", cell: (region) => dot(region, at) })),
      { title: "Users in", header: true, wide: false, cell: (region) => h("span", { class: "region-name clip", data: { mask: String(region.mask) }, title: `Open in the builder: ${wordsOf(region, names)}` }, shortWordsOf(region, names)) },
      { title: "", unseen: "Users as a bar", wide: true, width: "22%", cell: (region) => h("span", { class: "bar bar-found", "aria-hidden": "true" }, h("span", { class: "bar-fill", style: { width: `${(region.count / most) * 100}%` } })) },
      { title: "Users", number: true, cell: (region) => h("span", { title: integer(region.count) }, compact(region.count)) },
      { title: "Share", number: true, wide: true, cell: (region) => percent(all > 0 ? region.count / all : 0) },
    ],
  });
  const looked = (event) => Number(event.target.closest("tr")?.querySelector("[data-mask]")?.dataset.mask ?? 0);
  for (const kind of ["pointerover", "focusin"]) root.addEventListener(kind, (event) => onHover(looked(event)));
  for (const kind of ["pointerleave", "focusout"]) root.addEventListener(kind, () => onHover(0));
  root.highlight = (mask) => {
    for (const row of root.querySelectorAll("tbody tr")) row.toggleAttribute("data-looked", mask > 0 && row.querySelector("[data-mask]")?.dataset.mask === String(mask));
  };
  return root;
}
