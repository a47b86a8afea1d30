// Tables: columns, rows, and pages of them.

import { fill, h, lasting, renew } from "../core/dom.js";
import { integer } from "../core/format.js";
import { button } from "./button.js";

const classes = (...names) => names.filter(Boolean).join(" ") || null;

/// `columns` are `{ title, cell(row), number, width, header }`; of the one with `header` the cell names the row. Those with
/// `wide` are left out on small screens. With `onRow` a row can be opened.
///
/// A table with `key(row)` takes other rows by its `update(rows)`: of those it has, only cells that changed are made anew, so what is done in a
/// cell may depend on a row's key alone. A column that is `once` is never made anew.
export function table({ label, columns, rows, onRow, dense, pageRows = 100, key = (row) => row }) {
  const body = h("tbody", {});
  const showRows = lasting(body, key, () => tableRow(columns, onRow));
  let from = 0;
  const turn = (pages) => {
    from += pages * pageRows;
    show();
  };
  const place = h("span", { class: "muted grow" });
  const previous = button("Previous", { kind: "quiet", onClick: () => turn(-1) });
  const next = button("Next", { kind: "quiet", onClick: () => turn(1) });
  const pager = h("div", { class: "pager" }, place, previous, next);
  const show = () => {
    while (from > 0 && from >= rows.length) from -= pageRows;
    const end = Math.min(from + pageRows, rows.length);
    showRows(rows.slice(from, end));
    pager.hidden = rows.length <= pageRows;
    fill(place, `${integer(from + 1)}–${integer(end)} of ${integer(rows.length)}`);
    previous.disabled = from === 0;
    next.disabled = end >= rows.length;
  };
  const head = h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: classes(column.number && "number", column.wide && "wide"), style: column.width && { width: column.width } }, column.title || h("span", { class: "unseen" }, column.unseen ?? "Actions")))));
  show();
  const root = h(
    "div",
    { class: "table-card" },
    h("div", { class: "table-scroll", role: "region", "aria-label": label, tabindex: "0" }, h("table", { class: `table ${dense ? "table-dense" : ""}` }, head, body)),
    pager,
  );
  root.update = (others) => {
    rows = others;
    show();
  };
  return root;
}

function tableRow(columns, onRow) {
  let row;
  const open = () => onRow(row);
  const cells = columns.map((column) => {
    const cell = h(column.header ? "th" : "td", { class: classes(column.number && "number", column.mono && "mono", column.clip && "clip", column.wide && "wide"), scope: column.header ? "row" : null });
    const opener = column.header && onRow && h("button", { type: "button", class: "row-open", on: { click: open } });
    if (opener) cell.append(opener);
    return { column, cell, place: opener || cell };
  });
  const element = h("tr", { class: onRow ? "row-link" : null, on: onRow && { click: (event) => !event.target.closest("a, button, input, .menu-root") && open() } }, cells.map(({ cell }) => cell));
  element.update = (next) => {
    const isNew = row === undefined;
    row = next;
    for (const { column, place } of cells) {
      if (isNew || !column.once) renew(place, column.cell(row));
    }
  };
  return element;
}
