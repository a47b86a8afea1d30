// What campaigns are credited with by several models: on wide screens a panel for each model beside each other, with a row for each campaign; on narrow
// ones the models' bars below each campaign. One scale for all.

import { s } from "../core/dom.js";
import { compact, decimal, shorter } from "../core/format.js";
import { chart, linear, ticks } from "./frame.js";

const WIDE = 680;
const TOP = 40;
const BOTTOM = 26;
const ROW = 26;
/// On narrow screens: a model's bar, and a campaign's name above its bars.
const BAR = 18;
const NAME = 26;

/// As a bar says it: the table has the rest.
const rounded = (value) => compact(value >= 100 ? Math.round(value) : value);

/// `rows` are `{ name, credits }`, credits by model; `models` are `[model, text]`. `unit` is what is credited.
export function modelsChart({ label, rows, models, unit }) {
  const most = Math.max(...rows.flatMap(({ credits }) => models.map(([model]) => credits[model])), 0) || 1;
  const said = rows.map(({ name, credits }) => `${name}: ${models.map(([model, text]) => `${text} ${decimal(credits[model])}`).join(", ")}`);
  const bar = (row, [model, text], at, x, y, height) => s("rect", { class: `histogram-bar model-${at}`, x: x(0), y, width: Math.max(row.credits[model] > 0 ? 1 : 0, x(row.credits[model]) - x(0)), height, rx: 2 }, s("title", {}, `${row.name}, ${text}: ${decimal(row.credits[model])} ${unit}`));
  const words = (x, y, content, attributes) => s("text", { class: "axis-text", x, y, ...attributes }, content);
  const axis = (x, values, top, bottom) => values.map((value) => [s("line", { class: "grid-line", x1: x(value), x2: x(value), y1: top, y2: bottom }), words(x(value), bottom + 15, compact(value), { "text-anchor": "middle" })]);

  const beside = (width) => {
    const left = Math.min(190, Math.max(90, ...rows.map(({ name }) => name.length * 7 + 12)));
    const gap = 18;
    const panel = (width - left - models.length * gap) / models.length;
    const values = ticks(0, most, 2, true);
    const bottom = TOP + rows.length * ROW;
    return [
      words(0, 12, unit, { class: "axis-text axis-unit" }),
      rows.map(({ name }, at) => words(left - 8, TOP + at * ROW + ROW / 2 + 4, shorter(name, Math.floor((left - 8) / 6.6)), { class: "axis-text bar-name", "text-anchor": "end" })),
      models.map((model, at) => {
        const from = left + at * (panel + gap);
        const x = linear([0, values.at(-1)], [from, from + panel - 36]);
        return [
          words(from, TOP - 10, model[1], { class: "axis-text model-name" }),
          axis(x, values, TOP, bottom),
          rows.map((row, place) => {
            const y = TOP + place * ROW;
            return [bar(row, model, at, x, y + 5, ROW - 10), words(x(row.credits[model[0]]) + 5, y + ROW / 2 + 4, rounded(row.credits[model[0]]))];
          }),
        ];
      }),
    ];
  };
  const below = (width) => {
    const left = 62;
    const values = ticks(0, most, 3, true);
    const x = linear([0, values.at(-1)], [left, width - 46]);
    const each = NAME + models.length * BAR;
    return [
      words(0, 12, unit, { class: "axis-text axis-unit" }),
      axis(x, values, TOP, TOP + rows.length * each),
      rows.map((row, place) => {
        const top = TOP + place * each;
        return [
          words(0, top + 17, shorter(row.name, Math.floor(width / 7)), { class: "axis-text bar-name model-row" }),
          models.map((model, at) => {
            const y = top + NAME + at * BAR;
            return [words(left - 6, y + 11, model[1], { "text-anchor": "end" }), bar(row, model, at, x, y + 2, BAR - 6), words(x(row.credits[model[0]]) + 5, y + 11, rounded(row.credits[model[0]]))];
          }),
        ];
      }),
    ];
  };
  const height = (width) => TOP + BOTTOM + rows.length * (width >= WIDE ? ROW : NAME + models.length * BAR);
  return chart({ label: `${label}. ${said.join("; ")}`, height, draw: (width) => (width >= WIDE ? beside(width) : below(width)) });
}
