// SQL: a statement, its rows, a simple chart, files.

import { Latest, isAbort, post } from "../core/api.js";
import { catalog } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { compact, integer, microseconds } from "../core/format.js";
import { barChart } from "../charts/bars.js";
import { lineChart } from "../charts/line.js";
import { button, menu, segmented } from "../components/button.js";
import { editor } from "../components/code.js";
import { FORMATS, download } from "../components/download.js";
import { card, pageHead } from "../components/page.js";
import { empty, failed, failure, loading } from "../components/state.js";
import { table } from "../components/table.js";

const LIMIT = 10_000;
const RECENT_KEY = "beluga.sql";
const RECENT_MAX = 20;
const EXAMPLE = "SELECT tag, value, users FROM tag_values ORDER BY users DESC LIMIT 20";
const NUMBERS = /^(U?Int|Float|Decimal)/;
const TIMES = /^(Date|Timestamp)/;

export function mount(root, params, context) {
  const running = new Latest();
  const problem = h("div", {});
  const result = h("div", {}, empty("No rows yet", "Run a statement: Ctrl Enter."));
  const text = editor({ label: "SQL statement", value: params.get("q") ?? EXAMPLE, rows: 6, onRun: () => run(), onInput: () => fill(problem) });
  const runButton = button("Run", { kind: "primary", name: "play", title: "Ctrl Enter", onClick: () => run() });
  const cancelButton = button("Cancel", { name: "stop", onClick: () => running.cancel() });
  cancelButton.hidden = true;
  const clock = h("span", { class: "muted" });
  const recent = menu("Recent", () => {
    const all = recentStatements();
    return all.length ? all.map((sql) => ({ text: sql.replaceAll(/\s+/g, " ").slice(0, 80), onClick: () => { text.value = sql; text.focus(); } })) : [{ text: "Nothing ran in this tab yet", onClick: () => {} }];
  });
  const files = menu("Download", Object.entries(FORMATS).map(([format, { text: name }]) => ({ text: name, name: "download", detail: "all rows", onClick: () => download("/v1/sql", { sql: text.value }, format, "rows") })), { name: "download" });
  const names = h("aside", { class: "card names", "aria-label": "Tables and columns" });
  fill(
    root,
    pageHead("SQL", "Users are a table with a column a tag, and facts are tables, too."),
    h("div", { class: "sql" }, h("div", { class: "stack" }, h("section", { class: "card" }, h("div", { class: "card-body stack-small" }, text.root, problem, h("div", { class: "row-flex" }, runButton, cancelButton, files, recent, clock))), result), names),
  );
  showNames(names, (name) => text.insert(name));
  context.signal.addEventListener("abort", () => running.cancel());
  if (params.has("q")) run();

  async function run() {
    const sql = text.value.trim();
    if (!sql) return text.focus();
    context.note({ q: sql });
    remember(sql);
    fill(problem);
    text.markWrong(null);
    fill(result, loading(6, "The statement runs"));
    runButton.hidden = true;
    cancelButton.hidden = false;
    const started = performance.now();
    const timer = setInterval(() => fill(clock, `${((performance.now() - started) / 1_000).toFixed(1)} s`), 100);
    try {
      const answer = await running.run((signal) => post("/v1/sql", { sql: text.value, limit: LIMIT }, { signal }), context.signal);
      // One that another statement took the place of has nothing to say.
      if (answer) showRows(result, answer);
      else if (!running.isRunning) fill(result, empty("Cancelled", "The statement was ended, at the server too."));
    } catch (error) {
      if (error.span) {
        text.markWrong(error.span);
        fill(problem, failure(error));
        fill(result, empty("No rows", "The statement has to be right first."));
      } else fill(result, failed(error, error.status >= 500 || error.status === 0 ? run : null));
    } finally {
      clearInterval(timer);
      if (!running.isRunning) {
        fill(clock);
        runButton.hidden = false;
        cancelButton.hidden = true;
      }
    }
  }
}

function showRows(place, answer) {
  const { columns, rows } = answer;
  const note = `${integer(rows.length)}${answer.truncated ? ", the first ones" : ""} ${rows.length === 1 ? "row" : "rows"} · epoch ${integer(answer.epoch)} · ${microseconds(answer.elapsed_us)}`;
  if (rows.length === 0) return fill(place, card("Rows", empty("No rows", "The statement is right, and nothing fits it."), h("span", { class: "muted small" }, note)));
  const drawn = chartOf(answer);
  let view = "table";
  const content = h("div", { class: "rows" });
  const show = () => fill(content, view === "chart" ? drawn() : rowsTable(columns, rows));
  show();
  fill(place, card("Rows", content, h("span", { class: "muted small" }, note), drawn && segmented("View", [["table", "Table"], ["chart", "Chart"]], view, (next) => { view = next; show(); })));
}

function rowsTable(columns, rows) {
  return table({
    label: "Rows",
    dense: true,
    rows,
    columns: columns.map((column, at) => ({
      title: column.name,
      number: NUMBERS.test(column.type),
      clip: !NUMBERS.test(column.type),
      cell: (row) => cell(row[at], column),
    })),
  });
}

function cell(value, column) {
  if (value === null) return h("span", { class: "null" }, "NULL");
  if (typeof value === "number") return Number.isSafeInteger(value) && !/(^id$|_id$|year)/.test(column.name) ? integer(value) : String(value);
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return text.length > 300 ? h("span", { title: text.slice(0, 4_000) }, `${text.slice(0, 300)}…`) : text;
}

/// The simple chart of an answer: a name or a time, and a number. Undefined if it has no such columns.
function chartOf({ columns, rows }) {
  const number = columns.findLastIndex((column) => NUMBERS.test(column.type));
  const name = columns.findIndex((column, at) => at !== number && (TIMES.test(column.type) || !NUMBERS.test(column.type) || columns.length === 2));
  if (number < 0 || name < 0) return undefined;
  const unit = columns[number].name;
  if (TIMES.test(columns[name].type)) {
    const points = rows.map((row) => [Date.parse(row[name]), Number(row[number])]).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)).sort(([a], [b]) => a - b);
    const day = (at) => new Date(at).toISOString().slice(0, 10);
    return points.length > 1 ? () => lineChart({ label: `${unit} by ${columns[name].name}, ${points.length} points`, points: () => points, format: { x: day, y: compact }, unit: { x: columns[name].name, y: unit }, fromZero: true, height: 260 }) : undefined;
  }
  const bars = rows.map((row) => [row[name] === null ? "NULL" : typeof row[name] === "object" ? JSON.stringify(row[name]) : String(row[name]), Number(row[number])]).filter(([, value]) => Number.isFinite(value));
  return bars.length ? () => [barChart(`${unit} by ${columns[name].name}`, bars, unit), bars.length > 40 && h("p", { class: "muted note" }, `The first 40 of ${integer(bars.length)} rows are drawn.`)] : undefined;
}

async function showNames(place, insert) {
  const tables = (name, columns) => h("details", { open: name === "users" }, h("summary", {}, name), h("ul", {}, columns.map((column) => h("li", {}, h("button", { type: "button", class: "name", title: `Write ${column}`, on: { click: () => insert(column) } }, column)))));
  try {
    const { tags, facts } = await catalog();
    fill(
      place,
      h("header", { class: "card-head" }, h("h2", {}, "Tables")),
      h(
        "div",
        { class: "names-list" },
        tables("users", ["user_id", ...Object.keys(tags)]),
        Object.entries(facts ?? {}).map(([name, fact]) => tables(name, ["user_id", "ts", ...Object.keys(fact.columns ?? {}), "weight"])),
        tables("tag_values", ["tag", "value", "users", "bitmap"]),
        tables("audiences", ["name", "kind", "definition", "live", "description", "changed_at"]),
        tables("members", ["audience", "user_id"]),
        tables("system.queries", ["id", "kind", "sql", "state", "elapsed_us", "rows"]),
      ),
    );
  } catch (error) {
    if (!isAbort(error)) fill(place, failed(error));
  }
}

function recentStatements() {
  try {
    return JSON.parse(sessionStorage.getItem(RECENT_KEY) ?? "[]");
  } catch {
    return [];
  }
}

function remember(sql) {
  const all = [sql, ...recentStatements().filter((other) => other !== sql)].slice(0, RECENT_MAX);
  sessionStorage.setItem(RECENT_KEY, JSON.stringify(all));
}
