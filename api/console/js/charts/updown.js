// Who came and who went by day: bars up and bars down from one line.

import { s } from "../core/dom.js";
import { compact, integer, shortDay } from "../core/format.js";
import { bottomAxis, chart, leftAxis, linear, ticks } from "./frame.js";

const HEIGHT = 250;

/// `days` are `{ day, entered, left }`, one for each day of the time.
export function upDownChart(label, days) {
  const most = { up: Math.max(1, ...days.map((day) => day.entered)), down: Math.max(1, ...days.map((day) => day.left)) };
  return chart({
    label,
    height: HEIGHT,
    draw(width) {
      const [left, right, top, bottom] = [52, width - 4, 28, HEIGHT - 34];
      // One step for both sides, so that the line between them is a round figure, 0.
      const values = ticks(-most.down, most.up, 5, true);
      const low = Math.min(-most.down, values[0]);
      const high = Math.max(most.up, values.at(-1));
      const y = linear([low, high], [bottom, top]);
      const step = (right - left) / days.length;
      const gap = Math.min(3, step * 0.2);
      const bar = (from, to, at, classes) => from !== to && s("rect", { class: classes, x: left + at * step + gap / 2, y: Math.min(y(from), y(to)), width: Math.max(0.5, step - gap), height: Math.max(1, Math.abs(y(from) - y(to))), rx: Math.min(1.5, step / 4) });
      return [
        leftAxis(values, y, { left, right, top, format: (value) => compact(Math.abs(value)), unit: "times a day: entered up, left down" }),
        days.map((day, at) => s(
          "g",
          {},
          s("title", {}, `${shortDay(day.day)}: ${integer(day.entered)} entered, ${integer(day.left)} left`),
          // The whole height says it, however small the bars are.
          s("rect", { x: left + at * step, y: top, width: step, height: bottom - top, fill: "transparent" }),
          bar(0, day.entered, at, "bar-entered"),
          bar(0, -day.left, at, "bar-left"),
        )),
        s("line", { class: "zero-line", x1: left, x2: right, y1: y(0), y2: y(0) }),
        bottomAxis(days.map(({ day }, at) => [left + (at + 0.5) * step, shortDay(day)]), { y: bottom, right, unit: "days of UTC", room: 52 }),
      ];
    },
  });
}
