// What one more channel adds: a row for each, whose bar begins where those before it end.

import { s } from "../core/dom.js";
import { compact, integer, percent, shorter } from "../core/format.js";
import { chart, linear, ticks } from "./frame.js";

const ROW = 30;
const TOP = 30;
const BOTTOM = 26;

/// `rows` are `{ name, adds, cumulative, share }`, in order.
export function reachChart({ label, rows }) {
  const most = Math.max(1, ...rows.map(({ cumulative }) => cumulative));
  const told = ({ name, adds, cumulative, share }) => `${name} adds ${integer(adds)} users, ${integer(cumulative)} with those before it${share === null ? "" : `, ${percent(share)} of all`}`;
  return chart({
    label: `${label}: ${rows.map(told).join("; ")}`,
    height: TOP + rows.length * ROW + BOTTOM,
    draw(width) {
      const left = Math.min(190, width * 0.3, Math.max(60, ...rows.map(({ name }) => name.length * 7 + 14)));
      const values = ticks(0, most, width < 560 ? 2 : 5, true);
      const x = linear([0, values.at(-1)], [left, width - 18]);
      const bottom = TOP + rows.length * ROW;
      return [
        values.map((value) => s("line", { class: "grid-line", x1: x(value), x2: x(value), y1: TOP - 4, y2: bottom })),
        values.map((value) => s("text", { class: "axis-text", x: x(value), y: bottom + 16, "text-anchor": "middle" }, compact(value))),
        s("text", { class: "axis-text axis-unit", x: 0, y: 12 }, "users reached"),
        rows.map((row, at) => {
          const y = TOP + at * ROW;
          const [from, to] = [x(row.cumulative - row.adds), x(row.cumulative)];
          const words = `+${compact(row.adds)}${row.share === null ? "" : ` · ${percent(row.share)}`}`;
          const room = words.length * 6.2 + 10;
          // Beside the bar, where there is room for it.
          const isBehind = to + room <= width;
          return s(
            "g",
            {},
            s("title", {}, told(row)),
            s("text", { class: "axis-text bar-name", x: left - 8, y: y + ROW / 2 + 4, "text-anchor": "end" }, shorter(row.name, Math.max(4, Math.floor((left - 8) / 6.8)))),
            s("rect", { class: "step-lost", x: x(0), y: y + 5, width: Math.max(0, from - x(0)), height: ROW - 10, rx: 2 }),
            s("rect", { class: "histogram-bar", x: from, y: y + 5, width: Math.max(row.adds > 0 ? 1 : 0, to - from), height: ROW - 10, rx: 2 }),
            s("text", { class: "axis-text reach-words", x: isBehind ? to + 6 : from - 6, y: y + ROW / 2 + 4, "text-anchor": isBehind || from - 6 - room < left ? "start" : "end" }, words),
          );
        }),
      ];
    },
  });
}
