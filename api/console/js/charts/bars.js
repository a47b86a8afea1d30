// Bars of one figure by name: the simple chart of a statement's answer.

import { s } from "../core/dom.js";
import { compact, decimal } from "../core/format.js";
import { chart, linear, ticks } from "./frame.js";

const ROW = 24;
const ROWS_MAX = 40;

/// `rows` are `[name, value]`.
export function barChart(label, rows, unit) {
  const shown = rows.slice(0, ROWS_MAX);
  const low = Math.min(0, ...shown.map(([, value]) => value));
  const high = Math.max(0, ...shown.map(([, value]) => value)) || 1;
  const height = shown.length * ROW + 46;
  return chart({
    label: `${label}: ${shown.map(([name, value]) => `${name} ${decimal(value)}`).join(", ")}`,
    height,
    draw(width) {
      const [left, right, top] = [Math.min(170, width * 0.34), width - 60, 22];
      const values = ticks(low, high, 4, true);
      const x = linear([Math.min(low, values[0]), Math.max(high, values.at(-1))], [left, right]);
      const bottom = top + shown.length * ROW;
      return [
        values.map((value) => s("line", { class: "grid-line", x1: x(value), x2: x(value), y1: top, y2: bottom })),
        values.map((value) => s("text", { class: "axis-text", x: x(value), y: bottom + 16, "text-anchor": "middle" }, compact(value))),
        s("text", { class: "axis-text axis-unit", x: left, y: top - 8 }, unit),
        shown.map(([name, value], at) => {
          const y = top + at * ROW;
          const [from, to] = [x(Math.min(0, value)), x(Math.max(0, value))];
          const fits = Math.max(6, Math.floor(left / 7.2));
          return [
            s("text", { class: "axis-text bar-name", x: left - 8, y: y + ROW / 2 + 4, "text-anchor": "end" }, name.length > fits ? `${name.slice(0, fits - 1)}…` : name, s("title", {}, name)),
            s("rect", { class: "histogram-bar", x: from, y: y + 4, width: Math.max(1, to - from), height: ROW - 8, rx: 2 }, s("title", {}, `${name}: ${decimal(value)}`)),
            s("text", { class: "axis-text", x: to + 6, y: y + ROW / 2 + 4 }, compact(value)),
          ];
        }),
      ];
    },
  });
}
