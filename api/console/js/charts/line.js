// Lines: figures over time, or similarity over size.

import { s } from "../core/dom.js";
import { bottomAxis, chart, leftAxis, linear, logarithmic, ticks } from "./frame.js";

/// A line through `points()`, each `[x, y]` by rising x. `format` and `unit` are `{ x, y }`. With `log` the x axis is logarithmic. `mark()` is an x
/// to be marked; `fromZero` has the y axis begin at 0 and end at `reaches` or above; `xTicks(low, high)` gives places on the x axis.
export function lineChart({ label, points, height = 200, format, unit, log = false, mark, fromZero = false, reaches = 1, area = false, xTicks, range, left: margin = 52 }) {
  return chart({
    label,
    height,
    draw(width) {
      const all = points();
      const [left, right, top, bottom] = [margin, width - 8, 28, height - 34];
      if (all.length === 0) return [s("line", { class: "grid-line", x1: left, x2: right, y1: bottom, y2: bottom })];
      const xs = range?.() ?? [all[0][0], all.at(-1)[0]];
      const ys = all.map(([, y]) => y);
      const low = fromZero ? 0 : Math.min(...ys);
      const high = Math.max(...ys, fromZero ? reaches : -Infinity);
      const values = ticks(low, high, 4, true);
      const bounds = [Math.min(low, values[0] ?? low), Math.max(high, values.at(-1) ?? high)];
      const y = linear(bounds[0] === bounds[1] ? [bounds[0] - 1, bounds[1] + 1] : bounds, [bottom, top]);
      const x = (log ? logarithmic : linear)(xs[0] === xs[1] ? [xs[0], xs[0] * 2 || 1] : xs, [left, right]);
      const places = xTicks ? xTicks(...xs) : log ? decades(...xs) : ticks(...xs, 5);
      const line = all.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      const marked = mark?.();
      return [
        leftAxis(values, y, { left, right, top, format: format.y, unit: unit.y }),
        area && s("polygon", { class: "line-area", points: `${x(all[0][0])},${bottom} ${line} ${x(all.at(-1)[0])},${bottom}` }),
        marked !== undefined && marked !== null && s("line", { class: "mark-line", x1: x(marked), x2: x(marked), y1: top, y2: bottom }),
        s("polyline", { class: "line", points: line }),
        !area && all.length <= 40 && all.map(([at, value]) => s("circle", { class: "line-point", cx: x(at), cy: y(value), r: 3 }, s("title", {}, `${format.x(at)}: ${format.y(value)}`))),
        bottomAxis(places.map((at) => [x(at), format.x(at)]), { y: bottom, right, unit: unit.x }),
      ];
    },
  });
}

function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const times of [1, 2, 5]) {
      const at = times * 10 ** power;
      if (at >= low && at <= high) found.push(at);
    }
  }
  return found;
}

/// A line without axes, for a row; the figures stand beside it.
export function spark(values, label) {
  const [width, height] = [120, 28];
  const low = Math.min(...values);
  const high = Math.max(...values);
  const x = linear([0, Math.max(1, values.length - 1)], [1, width - 1]);
  const y = linear(low === high ? [low - 1, high + 1] : [low, high], [height - 2, 2]);
  return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label, preserveAspectRatio: "none" }, values.length > 1 && s("polyline", { class: "line", points: values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }));
}
