// Columns: how many there are of each of some rising values, the last of which may stand for all above.

import { s } from "../core/dom.js";
import { compact } from "../core/format.js";
import { bottomAxis, chart, leftAxis, linear, ticks } from "./frame.js";

const HEIGHT = 220;
/// Least room of a column that has its figure above it.
const ROOM = 44;
const BAR_MAX = 64;

/// `columns` are `{ name, value, told }`; `unit` is `{ x, y }`.
export function columnChart({ label, columns, unit }) {
  const most = Math.max(1, ...columns.map(({ value }) => value));
  return chart({
    label,
    height: HEIGHT,
    draw(width) {
      const [left, right, top, bottom] = [52, width - 4, 36, HEIGHT - 36];
      const values = ticks(0, most, 4, true);
      const y = linear([0, values.at(-1)], [bottom, top]);
      const room = (right - left) / columns.length;
      const bar = Math.min(BAR_MAX, Math.max(1, room * 0.78));
      const middle = (at) => left + (at + 0.5) * room;
      return [
        leftAxis(values, y, { left, right, top, format: compact, unit: unit.y }),
        columns.map(({ value, told }, at) => s(
          "g",
          {},
          s("title", {}, told),
          s("rect", { x: left + at * room, y: top, width: room, height: bottom - top, fill: "transparent" }),
          s("rect", { class: "histogram-bar", x: middle(at) - bar / 2, y: y(value), width: bar, height: Math.max(value > 0 ? 1 : 0, bottom - y(value)), rx: Math.min(2, bar / 4) }),
          room >= ROOM && s("text", { class: "axis-text step-users", x: middle(at), y: y(value) - 6, "text-anchor": "middle" }, compact(value)),
        )),
        bottomAxis(columns.map(({ name }, at) => [middle(at), name]), { y: bottom, right, unit: unit.x, room: 24 }),
      ];
    },
  });
}
