// What there is to ask about: the catalog, saved audiences, and the values of tags and columns. Kept for a moment, since every editor asks.

import { get, post } from "./api.js";
import { quoted } from "./format.js";

const KEPT_MS = 20_000;
const kept = new Map();

function keep(key, load) {
  const known = kept.get(key);
  if (known && Date.now() - known.at < KEPT_MS) return known.promise;
  const promise = load();
  kept.set(key, { at: Date.now(), promise });
  promise.catch(() => kept.delete(key));
  return promise;
}

export function forget(key) {
  if (key) kept.delete(key);
  else kept.clear();
}

export const catalog = () => keep("catalog", () => get("/v1/catalog"));

/// All saved audiences, by name.
export function audiences() {
  return keep("audiences", async () => {
    const found = [];
    let cursor = null;
    do {
      const page = await get(`/v1/audiences?limit=1000${cursor ? `&cursor=${cursor}` : ""}`);
      found.push(...page.audiences);
      cursor = page.next;
    } while (cursor);
    return found;
  });
}

/// Whether there is an audience of this name at this moment.
export async function exists(name) {
  forget("audiences");
  return (await audiences()).some((audience) => audience.name === name);
}

export const everybody = () => keep("everybody", async () => (await post("/v1/count", { where: "TRUE" })).count);

/// The tags as fields of conditions: `{ name, type, unit, scale }`.
export async function tagFields() {
  const { tags } = await catalog();
  return Object.entries(tags).map(([name, tag]) => ({ name, ...tag }));
}

/// The columns of a fact as fields of conditions on its events.
export async function factFields(fact) {
  const { facts } = await catalog();
  const columns = Object.entries(facts?.[fact]?.columns ?? {}).map(([name, type]) => ({ name, ...columnType(type) }));
  return [...columns, { name: "ts", type: "number", unit: "timestamp" }];
}

/// Whether values of a column can be added up, and whether they can tell events apart.
export const canBeAdded = (field) => field.type === "number" && field.unit !== "timestamp";
export const tellsApart = (field) => field.type !== "number" || (field.scale === undefined && field.unit === undefined);

function columnType(type) {
  if (typeof type === "object") return { type: "number", scale: type.decimal[1] };
  return {
    string: { type: "enum" },
    integer: { type: "number" },
    float: { type: "number", scale: 6 },
    boolean: { type: "flag" },
    timestamp: { type: "number", unit: "timestamp" },
  }[type] ?? { type: "enum" };
}

/// The values of an enum or set tag with how many users have each, the most frequent first; `more` beyond those.
export function tagValues(tag) {
  return keep(`tag ${tag}`, async () => {
    const answer = await post("/v1/profile", { where: "TRUE", by: [tag], values: 500 });
    const [profile] = answer.tags;
    return {
      of: answer.count,
      values: (profile.values ?? []).map(({ value, count, share }) => ({ value, count, share })),
      more: profile.more_values ?? 0,
    };
  });
}

/// Values of a tag that contain a text, where there are more than are listed. Takes the scope `export`, as all SQL does.
export async function findTagValues(tag, text, signal) {
  const pattern = quoted(`%${text.replaceAll(/[\\%_]/g, "\\$&")}%`);
  const sql = `SELECT value, users FROM tag_values WHERE tag = ${quoted(tag)} AND value LIKE ${pattern} ORDER BY users DESC LIMIT 100`;
  const { rows } = await post("/v1/sql", { sql, timeout_ms: 3_000 }, { signal });
  return rows.map(([value, count]) => ({ value, count }));
}

/// The most frequent values of a column of a fact.
export function columnValues(fact, column) {
  return keep(`column ${fact} ${column}`, async () => {
    const name = `"${column.replaceAll('"', '""')}"`;
    const table = `"${fact.replaceAll('"', '""')}"`;
    const sql = `SELECT ${name}, sum(weight) AS events FROM ${table} WHERE ${name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 200`;
    const { rows } = await post("/v1/sql", { sql, timeout_ms: 5_000 });
    const of = rows.reduce((sum, [, count]) => sum + count, 0);
    return { of, more: 0, values: rows.map(([value, count]) => ({ value: String(value), count, share: of ? count / of : 0 })) };
  });
}
