// The catalog: tags, facts, vector spaces, sources and sinks as tables, and as the YAML that a file would have.

import { get, inParallel, isAbort, post } from "../core/api.js";
import { catalog, everybody, forget, tagValues } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { ago, compact, integer, percent, quoted } from "../core/format.js";
import { address, go } from "../core/router.js";
import { button, linkButton } from "../components/button.js";
import { drawer } from "../components/dialog.js";
import { card, pageHead } from "../components/page.js";
import { chip, empty, failed, loading } from "../components/state.js";
import { table } from "../components/table.js";
import { toast } from "../components/toast.js";
import { yaml } from "../components/yaml.js";
import { STATE_KINDS } from "./live.js";

const VIEWS = [["tags", "Tags"], ["facts", "Facts"], ["spaces", "Spaces"], ["sources", "Sources"], ["sinks", "Sinks"], ["yaml", "YAML"]];
const ABOUT = {
  tags: ["No tags yet", "Tags are what is known of users: declare them in a catalog file and bring it in with beluga apply -f catalog.yaml."],
  facts: ["No facts yet", "Facts are what users do: purchases, visits. Declare them in the catalog."],
  spaces: ["No vector spaces yet", "A space gives users vectors, so that they can be compared."],
  sources: ["No sources yet", "A source reads a Kafka topic or files, and makes events or tags of its records."],
  sinks: ["No sinks yet", "A sink passes on who enters and leaves live audiences, or the rows of a fact."],
};

export async function mount(root, params, context) {
  const view = VIEWS.some(([name]) => name === params.get("view")) ? params.get("view") : "tags";
  const content = h("div", {}, loading(8));
  forget("catalog");
  const tabs = (document) => h("nav", { class: "tabs", "aria-label": "Views" }, VIEWS.map(([name, text]) => h("a", { href: address("catalog", { view: name === "tags" ? null : name }), "aria-current": name === view ? "page" : null }, text, document && name !== "yaml" && h("span", { class: "tab-count" }, Object.keys(document[name] ?? {}).length))));
  const head = pageHead("Catalog", "What is known of users, what they do, and where it comes from.");
  fill(root, head, tabs(), content);
  try {
    const document = await catalog();
    if (context.signal.aborted) return;
    fill(root, head, tabs(document), content);
    if (view !== "yaml" && Object.keys(document[view] ?? {}).length === 0) return fill(content, h("div", { class: "card" }, empty(...ABOUT[view])));
    fill(content, await SHOW[view](document, context));
  } catch (error) {
    if (!isAbort(error)) fill(content, failed(error, () => mount(root, params, context)));
  }
}

const SHOW = { tags, facts, spaces, sources, sinks, yaml: asYaml };

const shownType = (tag) => (tag.unit === "timestamp" ? "time" : tag.scale ? `number, ${tag.scale} digits` : tag.type);

async function tags({ tags: declared }, context) {
  const rows = Object.entries(declared).map(([name, tag]) => ({ name, ...tag }));
  const place = (name) => h("span", { class: "muted", data: { known: name } }, rows.find((row) => row.name === name).type === "set" ? "" : "…");
  const shown = h("div", { class: "card" }, table({
    label: "Tags",
    rows,
    onRow: (row) => (row.type === "enum" || row.type === "set" ? showValues(row.name) : go("insight", { by: row.name })),
    columns: [
      { title: "Tag", header: true, cell: (row) => row.name },
      { title: "Type", cell: (row) => chip(shownType(row)) },
      { title: "Users with it", number: true, cell: (row) => place(row.name) },
      { title: "Example", wide: true, width: "38%", mono: true, cell: (row) => h("code", { class: "muted" }, example(row)) },
    ],
  }));
  inParallel(rows.filter((row) => row.type !== "set"), 4, async (row) => {
    if (context.signal.aborted) return;
    const where = row.type === "flag" ? row.name : `${row.name} IS NOT NULL`;
    const [answer, of] = await Promise.all([post("/v1/count", { where, timeout_ms: 3_000 }, { signal: context.signal }), everybody()]).catch(() => [null, 0]);
    const cell = shown.querySelector(`[data-known="${CSS.escape(row.name)}"]`);
    if (cell) fill(cell, answer ? `${compact(answer.count)} · ${percent(of ? answer.count / of : 0)}` : "–");
  });
  return shown;
}

function example(tag) {
  if (tag.type === "flag") return tag.name;
  if (tag.type !== "number") return `${tag.name} = '…'`;
  return tag.unit === "timestamp" ? `${tag.name} >= '2026-11-01'` : `${tag.name} BETWEEN 1 AND 10`;
}

async function showValues(tag) {
  const content = h("div", {}, loading(8));
  drawer(`Values of ${tag}`, content);
  try {
    const { values, more } = await tagValues(tag);
    if (values.length === 0) return fill(content, empty("No values", "No user has one."));
    fill(
      content,
      table({
        label: `Values of ${tag}`,
        dense: true,
        pageRows: 25,
        rows: values,
        columns: [
          { title: "Value", header: true, cell: ({ value }) => h("a", { href: address("audience", { where: `${tag} = ${quoted(value)}` }) }, value) },
          { title: "Users", number: true, cell: ({ count }) => integer(count) },
          { title: "Share", number: true, cell: ({ share }) => percent(share) },
        ],
      }),
      more > 0 && h("p", { class: "muted note" }, `${integer(more)} rarer values are not shown.`),
    );
  } catch (error) {
    fill(content, failed(error));
  }
}

const columnType = (type) => (typeof type === "string" ? type : `decimal(${type.decimal.join(", ")})`);

async function facts({ facts: declared }) {
  return h("div", { class: "stack" }, Object.entries(declared).map(([name, fact]) => {
    const { dimensions = [], measures = [] } = fact.activity ?? {};
    const rows = [["ts", "timestamp"], ...Object.entries(fact.columns ?? {})];
    const kept = [fact.retention && `kept ${fact.retention}`, fact.deduplicate && `each once within ${fact.deduplicate}`, fact.time_zone && `days of ${fact.time_zone}`].filter(Boolean).join(" · ");
    return card(
      name,
      h("div", { class: "flush" }, table({
        label: `Columns of ${name}`,
        dense: true,
        rows,
        columns: [
          { title: "Column", header: true, cell: ([column]) => column },
          { title: "Type", cell: ([, type]) => chip(columnType(type)) },
          { title: "Counted as it arrives", cell: ([column]) => (dimensions.includes(column) ? chip("dimension", "accent") : measures.includes(column) ? chip("measure", "accent") : "") },
        ],
      })),
      h("span", { class: "muted small" }, kept),
      linkButton("Rows", address("sql", { q: `SELECT * FROM "${name}" ORDER BY ts DESC LIMIT 100` })),
    );
  }));
}

async function spaces({ spaces: declared }) {
  return h("div", { class: "card" }, table({
    label: "Vector spaces",
    rows: Object.entries(declared),
    columns: [
      { title: "Space", header: true, cell: ([name]) => name },
      { title: "Numbers", number: true, cell: ([, space]) => integer(space.dimension) },
      { title: "Compared by", cell: ([, space]) => chip(space.metric) },
      { title: "", cell: ([name]) => linkButton("Lookalike", address("lookalike", { space: name })) },
    ],
  }));
}

async function sources(document, context) {
  const { sources: all } = await get("/v1/sources?limit=1000", { signal: context.signal });
  return h("div", { class: "card" }, table({
    label: "Sources",
    rows: all,
    columns: [
      { title: "Source", header: true, cell: (one) => one.name },
      { title: "State", cell: (one) => chip(one.state, STATE_KINDS[one.state]) },
      { title: "What", cell: (one) => [h("div", {}, one.about), one.error && h("div", { class: "bad-text small" }, one.error)] },
      { title: "Records", number: true, cell: (one) => compact(one.records) },
      { title: "Refused", number: true, cell: (one) => compact(one.refused) },
      { title: "Lag", number: true, cell: (one) => compact(one.lag) },
      { title: "Watermark", cell: (one) => h("span", { class: "muted", title: one.watermark }, one.watermark ? ago(one.watermark) : "–") },
    ],
  }));
}

async function sinks(document, context) {
  const { sinks: all } = await get("/v1/sinks?limit=1000", { signal: context.signal });
  return h("div", { class: "card" }, table({
    label: "Sinks",
    rows: all,
    columns: [
      { title: "Sink", header: true, cell: (one) => one.name },
      { title: "State", cell: (one) => chip(one.state, STATE_KINDS[one.state]) },
      { title: "What", cell: (one) => [h("div", {}, one.about), one.error && h("div", { class: "bad-text small" }, one.error)] },
      { title: "Delivered", number: true, cell: (one) => compact(one.delivered) },
      { title: "Waiting", number: true, cell: (one) => compact(one.queued) },
      { title: "Given up", number: true, cell: (one) => compact(one.dead_letters) },
    ],
  }));
}

async function asYaml(document) {
  const text = yaml(document);
  const copy = button("Copy", { name: "copy", onClick: () => navigator.clipboard.writeText(text).then(() => toast("Copied")) });
  return card("catalog.yaml", h("pre", { class: "yaml", tabindex: "0" }, text), copy);
}
