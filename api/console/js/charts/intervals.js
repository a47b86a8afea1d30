// Differences with their intervals: a row for each, a point at the estimate, a line as far as the interval reaches, and where there is no difference.

import { s } from "../core/dom.js";
import { shorter } from "../core/format.js";
import { bottomAxis, chart, linear, ticks } from "./frame.js";

const ROW = 40;
const TOP = 26;
const BOTTOM = 36;

/// `rows` are `{ name, estimate, low, high, side, told }`, where `side` is "over", "under" or "none", as sure as
/// they are; `format` says a value of the axis, `unit` what it is of.
export function intervalChart({ label, rows, format, unit }) {
  const least = Math.min(0, ...rows.map(({ low }) => low));
  const most = Math.max(0, ...rows.map(({ high }) => high));
  const height = TOP + rows.length * ROW + BOTTOM;
  return chart({
    label: `${label}. ${rows.map(({ name, told }) => `${name}: ${told}`).join("; ")}`,
    height,
    draw(width) {
      const isWide = width >= 560;
      const left = isWide ? Math.min(220, Math.max(80, ...rows.map(({ name }) => name.length * 7 + 14))) : 8;
      const right = width - 12;
      const bottom = TOP + rows.length * ROW;
      const step = (most - least) * 0.06 || 1;
      const [low, high] = [least - step, most + step];
      const x = linear([low, high], [left + 8, right]);
      const values = ticks(low, high, isWide ? 6 : 3);
      return [
        values.map((value) => s("line", { class: "grid-line", x1: x(value), x2: x(value), y1: TOP - 6, y2: bottom })),
        s("line", { class: "no-difference", x1: x(0), x2: x(0), y1: TOP - 10, y2: bottom }),
        s("text", { class: "axis-text", x: Math.min(Math.max(x(0), left + 36), right - 36), y: TOP - 15, "text-anchor": "middle" }, "no difference"),
        rows.map(({ name, estimate, low: from, high: to, side, told }, at) => {
          const y = TOP + at * ROW + (isWide ? ROW / 2 : 28);
          return s(
            "g",
            { class: `interval interval-${side}` },
            s("title", {}, `${name}: ${told}`),
            s("rect", { x: left, y: y - 10, width: Math.max(0, right - left), height: 20, fill: "transparent" }),
            s("text", { class: "axis-text bar-name interval-name", x: isWide ? left - 6 : 0, y: isWide ? y + 4 : y - 14, "text-anchor": isWide ? "end" : "start" }, shorter(name, Math.floor((isWide ? left - 6 : width) / 6.6))),
            s("path", { class: "interval-line", d: `M${x(from)} ${y - 5}v10M${x(from)} ${y}H${x(to)}M${x(to)} ${y - 5}v10` }),
            s("circle", { class: "interval-point", cx: x(estimate), cy: y, r: 4.5 }),
          );
        }),
        bottomAxis(values.map((value) => [x(value), format(value)]), { y: bottom, right, unit }),
      ];
    },
  });
}
