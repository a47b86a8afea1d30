// A figure by period: a line for each of a few series over the same periods. Where a period has no such figure, a line is broken.

import { s } from "../core/dom.js";
import { bottomAxis, chart, leftAxis, linear, ticks } from "./frame.js";

const HEIGHT = 250;
/// Lines of so many periods have a point for each of them.
const POINTS_MAX = 62;

/// `series` are `{ name, values }` with a value for each of the `periods`, null for none; these are `{ at, name }` with their time by rising
/// time. Each has the colour of its place (`series-0`). `format` says a value, `unit` is `{ x, y }`.
export function periodsChart({ label, periods, series, format, unit }) {
  const known = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const most = Math.max(...known, 0) || 1;
  return chart({
    label,
    height: HEIGHT,
    draw(width) {
      const [left, right, top, bottom] = [58, width - 8, 28, HEIGHT - 36];
      const values = ticks(0, most, 4, true);
      const y = linear([0, values.at(-1)], [bottom, top]);
      const isOne = periods.length === 1;
      const x = isOne ? () => (left + right) / 2 : linear([periods[0].at, periods.at(-1).at], [left + 6, right - 6]);
      // All together comes last, above the others.
      const drawn = series.map((one, place) => [one, place]).reverse();
      return [
        leftAxis(values, y, { left, right, top, format, unit: unit.y }),
        drawn.map(([{ name, values: own }, place]) => s(
          "g",
          { class: `series series-${place}` },
          s("path", { class: "series-line", d: pathOf(own, (at) => x(periods[at].at), y) }),
          own.map((value, at) => {
            const isAlone = value !== null && (own[at - 1] ?? null) === null && (own[at + 1] ?? null) === null;
            return value !== null && (periods.length <= POINTS_MAX || isAlone) && s("circle", { class: "series-point", cx: x(periods[at].at), cy: y(value), r: 3 }, s("title", {}, `${name}, ${periods[at].name}: ${format(value)}`));
          }),
        )),
        bottomAxis(periods.map(({ at, name }) => [x(at), name]), { y: bottom, right, unit: unit.x, room: 56 }),
      ];
    },
  });
}

function pathOf(values, x, y) {
  let isDrawing = false;
  const steps = values.map((value, at) => {
    const step = value === null ? "" : `${isDrawing ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    isDrawing = value !== null;
    return step;
  });
  return steps.join("");
}
