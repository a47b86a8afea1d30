// A condition on a tag, or on a column of an event: field, operator, values with suggestions.

import { isAbort } from "../core/api.js";
import { columnValues, findTagValues, tagValues } from "../core/catalog.js";
import { fill, h, pause } from "../core/dom.js";
import { combobox, filtered } from "../components/combobox.js";
import { arity, operators } from "./model.js";

/// What the empty text is called, which is a value as others are.
const EMPTY = "(empty)";
const SEARCH_MS = 150;
const TYPE_MARKS = { set: "{ }", enum: "Ab", flag: "✓", number: "12" };

export function typeMark(field) {
  const text = field.unit === "timestamp" ? "◷" : TYPE_MARKS[field.type];
  return h("span", { class: "type-mark", "aria-hidden": "true" }, text);
}

const typeName = (field) => (field.unit === "timestamp" ? "time" : field.type);

/// `context` has `fields`, `fact` (null for tags) and `changed()`.
export function conditionEditor(node, context) {
  const rest = h("div", { class: "condition-rest" });
  const fieldOf = (name) => context.fields.find((field) => field.name === name);
  const showRest = () => {
    const field = fieldOf(node.field);
    node.type = field?.type;
    if (!field) return fill(rest, node.field && h("span", { class: "muted" }, "There is no such name"));
    const ops = operators(field);
    if (!node.op) node.op = ops[0][0];
    const choose = h("select", { class: "select", "aria-label": "How", on: { change: () => changeOperator(choose.value) } }, ops.map(([op, text]) => h("option", { value: op, selected: op === node.op }, text)));
    fill(rest, choose, valueEditor(node, field, context));
  };
  const changeOperator = (op) => {
    if (arity(op) !== arity(node.op)) node.values = node.values.slice(0, arity(op) === Infinity ? undefined : arity(op));
    node.op = op;
    showRest();
    context.changed();
  };
  const choose = combobox({
    label: context.fact ? "Column" : "Tag",
    placeholder: context.fact ? "Column" : "Choose a tag",
    value: node.field,
    options: (query) => filtered(context.fields.map((field) => ({ value: field.name, detail: typeName(field), icon: typeMark(field) })), query),
    onChange: (name) => {
      Object.assign(node, { field: name, op: "", values: [], unknown: undefined });
      showRest();
      context.changed();
      rest.querySelector(".combobox-input, input")?.focus();
    },
  });
  choose.classList.add("condition-field");
  showRest();
  return h("div", { class: "condition" }, choose, rest);
}

function valueEditor(node, field, context) {
  const change = (values) => {
    node.values = values;
    context.changed();
  };
  switch (arity(node.op)) {
    case 0:
      return null;
    case Infinity:
      return [
        combobox({ label: `Values of ${field.name}`, placeholder: "Any value", multiple: true, free: true, values: node.values, options: suggestions(field, context), onChange: change, describe: (value) => value || EMPTY }),
        node.op === "not_in" && field.type === "enum" && node.values.length > 1 && h("span", { class: "hint" }, "of those whose value is known"),
      ];
    default:
      return scalarInputs(node, field, change);
  }
}

/// One input a value; between two of them stands "and".
export function scalarInputs(node, field, change) {
  const wanted = arity(node.op);
  const isTime = field.unit === "timestamp";
  const input = (at) => {
    const value = node.values[at] ?? "";
    const isDay = isTime && (value === "" || /^\d{4}-\d\d-\d\d$/.test(value));
    const element = h("input", {
      class: `input ${isTime ? "input-time" : "input-number"}`,
      type: isDay ? "date" : "text",
      inputmode: isTime ? null : "decimal",
      "aria-label": wanted === 2 ? `${field.name}, ${at === 0 ? "from" : "to"}` : field.name,
      value,
      on: {
        input: () => {
          const values = Array.from({ length: wanted }, (_, place) => node.values[place] ?? "");
          values[at] = element.value;
          change(values);
        },
      },
    });
    return element;
  };
  return h("span", { class: "scalars" }, input(0), wanted === 2 && [h("span", { class: "muted" }, "and"), input(1)]);
}

function suggestions(field, context) {
  return async (query, signal) => {
    const { values, more } = await (context.fact ? columnValues(context.fact, field.name) : tagValues(field.name));
    const shown = [...filtered(values.map((option) => (option.value === "" ? { ...option, label: EMPTY } : option)), query)];
    if (context.fact || more === 0 || !query) return Object.assign(shown, { more: query ? 0 : more });
    try {
      // More may be written before anybody is asked.
      await pause(SEARCH_MS, signal);
      const found = await findTagValues(field.name, query, signal);
      const known = new Set(shown.map((option) => option.value));
      return [...shown, ...found.filter((option) => !known.has(option.value))];
    } catch (error) {
      if (isAbort(error)) throw error;
      return Object.assign(shown, { note: `Rarer values cannot be searched: ${error.message}` });
    }
  };
}
