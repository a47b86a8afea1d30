// How many fit, with what share of all that is, and of which view of the data.

import { h } from "../core/dom.js";
import { integer, microseconds, percent } from "../core/format.js";

/// `left` is how many conditions are left out, since they are not complete.
export function counted({ count, epoch, elapsed, of, left }) {
  const share = of > 0 ? count / of : 0;
  return [
    h("span", { class: "count-value", data: { count: String(count), epoch: String(epoch) } }, integer(count)),
    h("span", { class: "count-unit" }, count === 1 ? "user fits" : "users fit"),
    h("span", { class: "count-bar", role: "img", "aria-label": `${percent(share)} of all ${integer(of)} users` }, h("span", { style: { width: `${Math.min(100, share * 100)}%` } })),
    h("span", { class: "muted" }, `${percent(share)} of ${integer(of)}`),
    h("span", { class: "muted small" }, `Epoch ${integer(epoch)} · exact · ${microseconds(elapsed)}`),
    left > 0 && h("span", { class: "count-left" }, left === 1 ? "One condition is not complete and left out" : `${left} conditions are not complete and left out`),
  ];
}
