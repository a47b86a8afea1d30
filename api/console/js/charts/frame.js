// What charts share: a drawing as wide as its place, scales with round ticks, axes with units.

import { h, s } from "../core/dom.js";

/// What is narrower than the margins of a chart has no room for it. A place may be, before its styles have come.
const WIDTH_LEAST = 80;

/// Round values from `low` to `high`, about `wanted` of them; with `covers` the last one is `high` or just above.
export function ticks(low, high, wanted = 4, covers = false) {
  const span = high - low || 1;
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(low / step) * step;
  const found = [];
  const end = covers ? Math.ceil(high / step - 1e-9) * step : high;
  for (let at = first; at <= end + step * 1e-9; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

export const linear = ([low, high], [from, to]) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

export function logarithmic([low, high], [from, to]) {
  const scale = linear([Math.log(low), Math.log(high)], [from, to]);
  return (value) => scale(Math.log(value));
}

/// A chart. `draw(width, height)` gives its marks; it is drawn anew when its place changes its width. `height` may be a function of the width. `label`
/// says in words what it shows; one in which something can be chosen has the role "group".
export function chart({ label, height = 180, role = "img", draw }) {
  const svg = s("svg", { class: "chart-svg", role, "aria-label": label, width: "100%" });
  const root = h("div", { class: "chart" }, svg);
  const heightOf = typeof height === "function" ? height : () => height;
  let width = 0;
  const paint = () => {
    if (width < WIDTH_LEAST) return;
    const tall = heightOf(width);
    svg.setAttribute("height", tall);
    svg.replaceChildren(...[draw(width, tall)].flat(Infinity).filter(Boolean));
  };
  new ResizeObserver(([entry]) => {
    const next = Math.floor(entry.contentRect.width);
    if (next === width) return;
    width = next;
    paint();
  }).observe(root);
  root.repaint = (nextLabel) => {
    if (nextLabel) svg.setAttribute("aria-label", nextLabel);
    paint();
  };
  return root;
}

const text = (x, y, content, attributes) => s("text", { x, y, class: "axis-text", ...attributes }, content);

/// Lines across with their values at the left; `unit` stands above them.
export function leftAxis(values, scale, { left, right, top, format, unit }) {
  return [
    values.map((value) => s("line", { class: "grid-line", x1: left, x2: right, y1: scale(value), y2: scale(value) })),
    values.map((value) => text(left - 6, scale(value) + 3.5, format(value), { "text-anchor": "end" })),
    unit && text(0, top - 12, unit, { class: "axis-text axis-unit" }),
  ];
}

/// Values below; `places` are `[x, text]` by rising x. The last one is shown, within the chart's right end; others only where they touch none.
export function bottomAxis(places, { y, unit, right, room = 44 }) {
  const taken = ([x, label], isLast) => {
    const half = Math.max(room, label.length * 6.4 + 12) / 2;
    const isOver = x + label.length * 3.2 > right;
    if (isOver && !isLast) return null;
    return isOver ? { label, x: right, anchor: "end", begin: right - 2 * half, end: right } : { label, x, anchor: "middle", begin: x - half, end: x + half };
  };
  const last = places.length > 0 ? taken(places.at(-1), true) : null;
  const shown = [];
  let free = -Infinity;
  for (const place of places.slice(0, -1).map((one) => taken(one, false))) {
    if (!place || place.begin < free || place.end > last.begin) continue;
    free = place.end;
    shown.push(place);
  }
  const all = last ? [...shown, last] : shown;
  return [all.map(({ x, label, anchor }) => text(x, y + 15, label, { "text-anchor": anchor })), unit && text(right, y + 30, unit, { class: "axis-text axis-unit", "text-anchor": "end" })];
}
