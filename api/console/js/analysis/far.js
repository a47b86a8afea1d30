// Who came how far: a row for each step, with its users and those of them who stopped there, each of which can be kept as an audience.

import { h } from "../core/dom.js";
import { count, integer, percent, seconds } from "../core/format.js";
import { table } from "../components/table.js";

/// `steps` are those of an answer; `keep(row, stopped)` is called for what is to be kept. `others` are columns before the users. What the rows
/// are called is `noun`, "step".
export function farCard({ label, noun, steps, keep, others = [] }) {
  const rows = steps.map((step, at) => ({ ...step, at, isLast: at === steps.length - 1 }));
  const title = noun[0].toUpperCase() + noun.slice(1);
  const kept = (users, words, save) => h("span", { class: "kept" }, h("span", {}, integer(users)), users > 0 && h("button", { type: "button", class: "button button-quiet keep", "aria-label": words, title: words, on: { click: save } }, "Keep"));
  return h(
    "section",
    { class: "card" },
    h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Who came how far"), h("p", {}, "Keep makes an audience of them")),
    table({
      label,
      rows,
      key: (row) => row.at,
      columns: [
        { title, header: true, cell: (row) => h("span", { class: "step-name", title: row.name }, h("span", { class: "step-number" }, String(row.at + 1)), h("span", { class: "step-words" }, h("span", { class: "clip" }, row.name), row.of_previous !== null && row.at > 0 && h("span", { class: "narrow muted small" }, `${percent(row.of_previous)} of ${noun} ${row.at}${row.median_seconds === undefined ? "" : `, median ${seconds(row.median_seconds)}`}`))) },
        { title: "Of the first", number: true, wide: true, cell: (row) => (row.of_first === null ? "–" : percent(row.of_first)) },
        { title: `Of the ${noun} before`, number: true, wide: true, cell: (row) => (row.at === 0 || row.of_previous === null ? "–" : percent(row.of_previous)) },
        ...others,
        { title: "Came so far", number: true, cell: (row) => kept(row.users, `Keep the ${count(row.users, "user")} who came to ${noun} ${row.at + 1}`, () => keep(row, false)) },
        { title: "Stopped here", number: true, cell: (row) => (row.isLast ? "–" : kept(row.stopped, `Keep the ${count(row.stopped, "user")} who stopped at ${noun} ${row.at + 1}`, () => keep(row, true))) },
      ],
    }),
  );
}
