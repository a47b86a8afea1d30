// How a number is spread: bars of the audience, a line for the baseline.

import { s } from "../core/dom.js";
import { compact, date, decimal, integer, percent } from "../core/format.js";
import { bottomAxis, chart, leftAxis, linear, ticks } from "./frame.js";

const HEIGHT = 190;

export function histogram(tag, number, isTime) {
  const { histogram: bins, count, baseline_count: baseline } = number;
  const shares = bins.map((bin) => ({ ...bin, baselineShare: baseline > 0 ? bin.baseline_count / baseline : 0 }));
  const most = Math.max(...shares.map((bin) => Math.max(bin.share, bin.baselineShare)), 0.0001);
  // Bins of one number each stand above that number, others begin at theirs.
  const isSingle = bins.every((bin) => bin.from === bin.to);
  const show = isTime ? date : (value) => compact(Number(value));
  const exact = isTime ? date : (value) => decimal(Number(value));
  const label = `Histogram of ${tag}: ${integer(count)} users in ${bins.length} bins from ${exact(bins[0].from)} to ${exact(bins.at(-1).to)}`;
  return chart({
    label,
    height: HEIGHT,
    draw(width) {
      const [left, right, top, bottom] = [44, width - 4, 26, HEIGHT - 34];
      const values = ticks(0, most, 3, true);
      const y = linear([0, values.at(-1)], [bottom, top]);
      const step = (right - left) / shares.length;
      const gap = Math.min(2, step * 0.15);
      const line = shares.flatMap((bin, at) => [`${left + at * step},${y(bin.baselineShare)}`, `${left + (at + 1) * step},${y(bin.baselineShare)}`]).join(" ");
      return [
        leftAxis(values, y, { left, right, top, format: (value) => `${decimal(value * 100)} %`, unit: "share of users" }),
        shares.map((bin, at) =>
          s(
            "rect",
            { class: "histogram-bar", x: left + at * step + gap / 2, y: y(bin.share), width: Math.max(1, step - gap), height: Math.max(bin.count > 0 ? 1 : 0, bottom - y(bin.share)), rx: 1.5 },
            s("title", {}, `${exact(bin.from)} to ${exact(bin.to)}: ${integer(bin.count)} users, ${percent(bin.share)}; baseline ${percent(bin.baselineShare)}`),
          ),
        ),
        s("polyline", { class: "baseline-line", points: line }),
        bottomAxis(isSingle ? shares.map((bin, at) => [left + (at + 0.5) * step, show(bin.from)]) : [...shares.map((bin, at) => [left + at * step, show(bin.from)]), [right, show(shares.at(-1).to)]], { y: bottom, right, unit: isTime ? "time" : tag }),
      ];
    },
  });
}
