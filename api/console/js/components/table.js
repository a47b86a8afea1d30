// Tables: columns, rows, and pages of them.

import { h, fill } from "../core/dom.js";
import { integer } from "../core/format.js";
import { button } from "./button.js";

/// `columns` are `{ title, cell(row), number, width, header }`; of the one with `header` the cell names the row. Those with
/// `wide` are left out on small screens. With `onRow` a row can be opened.
export function table({ label, columns, rows, onRow, dense, pageRows = 100 }) {
  const body = h("tbody", {});
  const pager = h("div", { class: "pager" });
  let from = 0;
  const show = () => {
    fill(
      body,
      rows.slice(from, from + pageRows).map((row) =>
        h(
          "tr",
          { class: onRow ? "row-link" : null, on: onRow && { click: (event) => !event.target.closest("a, button, input, .menu-root") && onRow(row) } },
          columns.map((column) => {
            const shown = column.cell(row);
            const content = column.header && onRow ? h("button", { type: "button", class: "row-open", on: { click: () => onRow(row) } }, shown) : shown;
            return h(column.header ? "th" : "td", { class: [column.number && "number", column.mono && "mono", column.clip && "clip", column.wide && "wide"].filter(Boolean).join(" ") || null, scope: column.header ? "row" : null }, content);
          }),
        ),
      ),
    );
    const end = Math.min(from + pageRows, rows.length);
    pager.hidden = rows.length <= pageRows;
    fill(
      pager,
      h("span", { class: "muted grow" }, `${integer(from + 1)}–${integer(end)} of ${integer(rows.length)}`),
      button("Previous", { kind: "quiet", disabled: from === 0, onClick: () => { from -= pageRows; show(); } }),
      button("Next", { kind: "quiet", disabled: end >= rows.length, onClick: () => { from += pageRows; show(); } }),
    );
  };
  const head = h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null, style: column.width && { width: column.width } }, column.title || h("span", { class: "unseen" }, column.unseen ?? "Actions")))));
  show();
  return h(
    "div",
    { class: "table-card" },
    h("div", { class: "table-scroll", role: "region", "aria-label": label, tabindex: "0" }, h("table", { class: `table ${dense ? "table-dense" : ""}` }, head, body)),
    pager,
  );
}
