// A condition that the builder has no editor for, as it is written in the audience language; of what is longer, its tree.

import { h } from "../core/dom.js";
import { quoted } from "../core/format.js";
import { colours } from "../components/code.js";

const literal = (value) => (typeof value === "string" ? quoted(value) : String(value).toUpperCase());
const list = (values) => `(${values.map(literal).join(", ")})`;
const range = (values) => values.map(literal).join(" AND ");

const TESTS = {
  is: (value) => `= ${literal(value)}`,
  is_not: (value) => `IS DISTINCT FROM ${literal(value)}`,
  in: (values) => `IN ${list(values)}`,
  not_in: (values) => `NOT IN ${list(values)}`,
  between: (values) => `BETWEEN ${range(values)}`,
  not_between: (values) => `NOT BETWEEN ${range(values)}`,
  known: (isKnown) => (isKnown ? "IS NOT NULL" : "IS NULL"),
};

function textOf(tree) {
  if (typeof tree === "boolean") return literal(tree);
  const { tag, column, op, value, ...rest } = tree;
  const name = tag ?? column;
  const [test] = Object.keys(rest);
  if (name !== undefined && op !== undefined) return `${name} ${op.toUpperCase()} ${literal(value)}`;
  return name !== undefined && TESTS[test] ? `${name} ${TESTS[test](rest[test])}` : JSON.stringify(tree);
}

export function writtenCondition(tree) {
  return h("div", { class: "condition" }, h("code", { class: "written clip" }, colours(textOf(tree))), h("span", { class: "hint" }, "edited as text"));
}
