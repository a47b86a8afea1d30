// What the builder edits, and the JSON tree of the audience language that it stands for (docs/language.md).
//
// A node may be incomplete, a tag without a value for one: such a node is left out of the tree, and told apart by `toTree` being undefined.

import { newId } from "../core/dom.js";

export const group = (op = "all", items = [], k = 2) => ({ id: newId("node"), kind: "group", op, k, items });
export const condition = (field = "", op = "", values = []) => ({ id: newId("node"), kind: "condition", field, op, values });
export const behaviour = (fact = "") => ({ id: newId("node"), kind: "behaviour", fact, negated: false, events: group(), figures: [], within: null, exact: false });
export const membership = (name = "") => ({ id: newId("node"), kind: "membership", name, negated: false });
export const likeness = (space = "") => ({ id: newId("node"), kind: "likeness", space, seed: "", amount: "size", value: "1000", negated: false, others: {} });
export const people = (ids = [], negated = false) => ({ id: newId("node"), kind: "people", ids, negated });
const written = (tree) => ({ id: newId("node"), kind: "written", tree });

/// How a figure of events is compared, and one that is a time: `[op, text]`.
export const COMPARISONS = [[">=", "at least"], ["<=", "at most"], ["=", "exactly"], [">", "more than"], ["<", "less than"], ["between", "between"]];
export const MOMENTS = [[">=", "from"], ["<", "before"], ["between", "between"]];
export const isMoment = ({ figure }) => figure === "first" || figure === "last";

/// What can be asked of a field, by its type: `[op, text]`.
export function operators(field) {
  if (!field) return [];
  switch (field.type) {
    case "flag":
      return [["yes", "is yes"], ["no", "is no"]];
    case "set":
      return [["in", "has any of"], ["not_in", "has none of"]];
    case "enum":
      return [["in", "is any of"], ["not_in", "is none of"], ["known", "is known"], ["unknown", "is not known"]];
    default:
      return field.unit === "timestamp"
        ? [[">=", "from"], ["<", "before"], ["between", "between"], ["known", "is known"], ["unknown", "is not known"]]
        : [["between", "between"], [">=", "at least"], ["<=", "at most"], [">", "more than"], ["<", "less than"], ["=", "is"], ["is_not", "is not"], ["known", "is known"], ["unknown", "is not known"]];
  }
}

/// How many values an operator takes: 0, 1, 2, or any number.
export function arity(op) {
  if (["yes", "no", "known", "unknown"].includes(op)) return 0;
  if (["in", "not_in"].includes(op)) return Infinity;
  return ["between", "not_between"].includes(op) ? 2 : 1;
}

// --- to the tree

/// The tree of a node; undefined if it is incomplete. `subject` is "tag", or "column" for conditions on events.
export function toTree(node, subject = "tag") {
  switch (node.kind) {
    case "group":
      return groupTree(node, subject);
    case "condition":
      return conditionTree(node, subject);
    case "behaviour":
      return behaviourTree(node);
    case "membership":
      return node.name ? negated(node, { in_audience: node.name }) : undefined;
    case "likeness":
      return likenessTree(node);
    case "people":
      return node.ids.length ? { user_id: node.negated ? { not_in: node.ids } : { in: node.ids } } : undefined;
    default:
      return node.tree;
  }
}

const negated = (node, tree) => (node.negated ? { not: tree } : tree);

function groupTree(node, subject) {
  const of = node.items.map((item) => toTree(item, subject)).filter((tree) => tree !== undefined);
  if (of.length === 0) return undefined;
  switch (node.op) {
    case "at_least":
      return { at_least: { k: Math.min(Math.max(1, node.k), of.length), of } };
    case "none":
      return { not: of.length === 1 ? of[0] : { any: of } };
    default:
      return of.length === 1 ? of[0] : { [node.op]: of };
  }
}

function conditionTree({ field, op, values, type, unknown }, subject) {
  // Of a name that nobody declared stands what was read, until another is chosen.
  if (unknown) return unknown;
  if (!field || !op) return undefined;
  const isText = type === "enum" || type === "set";
  // The empty text is a value; an empty input is none.
  const filled = isText ? values : values.filter((value) => value !== "");
  const wanted = arity(op);
  if (wanted === Infinity ? filled.length === 0 : filled.length < wanted) return undefined;
  const all = filled.map((value) => (isText ? value : literal(value)));
  const tree = { [subject]: field };
  switch (op) {
    case "yes":
      return tree;
    case "no":
      return { not: tree };
    case "known":
      return { ...tree, known: true };
    case "unknown":
      return { ...tree, known: false };
    case "in":
      return all.length === 1 ? { ...tree, is: all[0] } : { ...tree, in: all };
    case "not_in":
      return all.length === 1 && type !== "set" ? { ...tree, is_not: all[0] } : { ...tree, not_in: all };
    case "=":
      return { ...tree, is: all[0] };
    case "is_not":
      return { ...tree, is_not: all[0] };
    case "between":
    case "not_between":
      return { ...tree, [op]: all.slice(0, 2) };
    default:
      return { ...tree, op, value: all[0] };
  }
}

/// A number, if that is what was written. One that JavaScript would round stays text, which the server refuses instead of asking for another.
function literal(text) {
  const trimmed = String(text).trim();
  const [, sign, whole, fraction = ""] = /^(-?)0*(\d+)(?:\.(\d*?)0*)?$/.exec(trimmed) ?? [];
  if (whole === undefined) return trimmed;
  const number = Number(trimmed);
  return String(number) === `${sign}${whole}${fraction && `.${fraction}`}` ? number : trimmed;
}

/// Whether a value is still itself after it stood in an input.
const isSame = (value) => literal(String(value)) === value;

/// Whether JavaScript keeps the numbers of an expression: one of more than 15 digits may become another, so it is edited as text.
export const keepsNumbers = (text) => !/(\d\.?){16}/.test(text.replaceAll(/'(?:[^']|'')*'|"(?:[^"]|"")*"/g, ""));

function behaviourTree(node) {
  if (!node.fact) return undefined;
  const tree = { did: node.fact };
  // Conditions as they were read stand as they are until the columns are known.
  const events = node.trees ?? (node.events.op === "all" ? node.events.items.map((item) => toTree(item, "column")) : [toTree(node.events, "column")]);
  const where = events.filter((event) => event !== undefined);
  if (where.length) tree.where = where;
  const having = node.figures.map(figureTree).filter(Boolean);
  if (having.length) tree.having = having;
  if (node.within?.number) tree.within = `${node.within.number} ${node.within.unit}`;
  if (node.exact && tree.within) tree.exact_window = true;
  return negated(node, tree);
}

function figureTree({ figure, column, op, values }) {
  const filled = values.filter((value) => value !== "").map(literal);
  if ((figure === "sum" && !column) || filled.length < arity(op)) return undefined;
  const tree = figure === "sum" ? { figure, column } : { figure };
  return op === "between" || op === "not_between" ? { ...tree, [op]: filled } : { ...tree, op, value: filled[0] };
}

function likenessTree(node) {
  const amount = Number(node.value);
  if (!node.space || !node.seed || !(amount > 0)) return undefined;
  return negated(node, { similar_to: node.space, seed: node.seed, [node.amount]: amount, ...node.others });
}

// --- from the tree
//
// A condition that the builder has no operator for is kept as it was written: whoever opens an audience changes nothing by it.

/// The node of a tree. `types` gives the type of a field by its name.
export function fromTree(tree, types, subject = "tag") {
  if (tree === true) return group();
  const root = nodeOf(tree, types, subject);
  return root.kind === "group" ? root : group("all", [root]);
}

function nodeOf(tree, types, subject) {
  const many = (of) => of.map((one) => nodeOf(one, types, subject));
  if (typeof tree !== "object" || tree === null) return written(tree);
  if (tree.all) return group("all", many(tree.all));
  if (tree.any) return group("any", many(tree.any));
  if (tree.at_least) return group("at_least", many(tree.at_least.of), tree.at_least.k);
  if (tree.not !== undefined) return opposite(tree.not, types, subject);
  if (tree[subject] !== undefined) return conditionOf(tree, types, subject) ?? written(tree);
  if (tree.did !== undefined) return behaviourOf(tree) ?? written(tree);
  if (tree.in_audience !== undefined) return membership(tree.in_audience);
  if (tree.similar_to !== undefined) return likenessOf(tree) ?? written(tree);
  if (tree.user_id) return people((tree.user_id.in ?? tree.user_id.not_in).map(String), Boolean(tree.user_id.not_in));
  return written(tree);
}

function opposite(tree, types, subject) {
  if (tree.any) return group("none", tree.any.map((one) => nodeOf(one, types, subject)));
  const node = nodeOf(tree, types, subject);
  if (node.kind === "condition" && node.op === "yes") return Object.assign(node, { op: "no" });
  if (["behaviour", "membership", "likeness", "people"].includes(node.kind) && !node.negated) return Object.assign(node, { negated: true });
  return group("none", [node]);
}

function conditionOf(tree, types, subject) {
  const { [subject]: field, ...rest } = tree;
  const [key, ...others] = Object.keys(rest);
  const known = types(field);
  // A field of an event that nobody declared has no type to edit it by; a tag may be a mistake, which another name mends.
  if (!known) return subject === "column" ? null : Object.assign(condition(field), { unknown: tree });
  const { type } = known;
  const isNumber = type === "number";
  const isKept = (value) => (isNumber ? isSame(value) && typeof value === (known.unit === "timestamp" ? "string" : "number") : typeof value === "string");
  const make = (op, values) => {
    const isOffered = operators(known).some(([offered]) => offered === op);
    return isOffered && values.every(isKept) ? Object.assign(condition(field, op, values.map(String)), { type }) : null;
  };
  switch (key) {
    case undefined:
      return make("yes", []);
    case "known":
      return make(rest.known ? "known" : "unknown", []);
    case "is":
      if (type === "flag") return typeof rest.is === "boolean" ? make(rest.is ? "yes" : "no", []) : null;
      return make(isNumber ? "=" : "in", [rest.is]);
    case "is_not":
      return make(isNumber ? "is_not" : "not_in", [rest.is_not]);
    case "not_in":
      // Of one value, NOT IN leaves out whose value is not known, and "is none of" does not.
      return type === "enum" && rest.not_in.length === 1 ? null : make(key, rest.not_in);
    case "in":
    case "between":
      return make(key, rest[key]);
    case "op":
      return others.length === 1 ? make(rest.op, [rest.value]) : null;
    default:
      return null;
  }
}

function behaviourOf(tree) {
  const node = behaviour(tree.did);
  node.trees = tree.where ?? [];
  node.exact = tree.exact_window === true;
  if (tree.within !== undefined) {
    const match = /^\s*(\d+)\s*(hour|day|week|month|year)s?\s*$/.exec(tree.within);
    if (!match) return null;
    node.within = { number: match[1], unit: `${match[2]}s` };
  }
  for (const figure of tree.having ?? []) {
    const op = figure.between ? "between" : figure.op;
    if (!(isMoment(figure) ? MOMENTS : COMPARISONS).some(([offered]) => offered === op)) return null;
    const values = figure.between ?? [figure.value];
    if (!values.every(isSame)) return null;
    node.figures.push({ figure: figure.figure, column: figure.column ?? "", op, values: values.map(String) });
  }
  return node;
}

/// The conditions on events of a behaviour, once the columns of its fact are known.
export function readEvents(node, types) {
  if (!node.trees) return;
  const items = node.trees.map((tree) => nodeOf(tree, types, "column"));
  // How the outermost group is joined stands between its conditions, which says nothing of "none of" and "at least".
  const isOneGroup = items.length === 1 && items[0].kind === "group" && ["all", "any"].includes(items[0].op);
  node.events = isOneGroup ? items[0] : group("all", items);
  delete node.trees;
}

function likenessOf(tree) {
  const { similar_to: space, seed, size, share, ...others } = tree;
  const name = typeof seed === "string" ? seed : Object.keys(seed ?? {}).length === 1 ? seed.in_audience : undefined;
  if (name === undefined || (size === undefined && share === undefined)) return null;
  return Object.assign(likeness(space), { seed: name, amount: size === undefined ? "share" : "size", value: String(size ?? share), others });
}

// --- places

const JOINS = { all: (of) => of, any: (of) => of, xor: (of) => of, not: (of) => [of], at_least: ({ of }) => of };

function conditionCount(tree) {
  const key = Object.keys(tree ?? {}).find((name) => JOINS[name]);
  return key ? JOINS[key](tree[key]).reduce((sum, one) => sum + conditionCount(one), 0) : 1;
}

/// The nodes of conditions, in the order in which the server tells their places.
export function leaves(node) {
  if (toTree(node) === undefined) return [];
  if (node.kind === "group") return node.items.flatMap(leaves);
  return Array(conditionCount(toTree(node))).fill(node);
}

/// How many conditions are not complete.
export function incomplete(node) {
  if (node.kind === "group") return node.items.reduce((sum, item) => sum + incomplete(item), 0);
  return toTree(node) === undefined ? 1 : 0;
}
