// A condition on what users did: a fact, which of its events, what they come to, and within which time.

import { canBeAdded, catalog, factFields } from "../core/catalog.js";
import { h, fill } from "../core/dom.js";
import { button } from "../components/button.js";
import { scalarInputs } from "./condition.js";
import { COMPARISONS, condition, isMoment, MOMENTS, readEvents } from "./model.js";

const FIGURES = [["count", "number of times"], ["sum", "sum of"], ["first", "the first time"], ["last", "the last time"]];
const UNITS = ["hours", "days", "weeks", "months", "years"];

const select = (label, options, value, onChange) => {
  const element = h("select", { class: "select", "aria-label": label, on: { change: () => onChange(element.value) } }, options.map(([option, text]) => h("option", { value: option, selected: option === value }, text)));
  return element;
};

/// `context` has `facts`, `items(node, context)` which edits a group's items, and `changed()`.
export function behaviourEditor(node, context) {
  const body = h("div", { class: "behaviour-body" });
  const head = h("div", { class: "behaviour-head" });
  const show = async () => {
    const facts = context.facts.map((name) => [name, name]);
    fill(
      head,
      select("Whether", [["did", "did"], ["not", "did not"]], node.negated ? "not" : "did", (value) => { node.negated = value === "not"; context.changed(); }),
      select("What", [["", "choose what"], ...facts], node.fact, (fact) => { Object.assign(node, { fact, figures: [], events: { ...node.events, items: [] } }); show(); context.changed(); }),
      node.fact && windowEditor(node, context),
    );
    if (!node.fact) return fill(body);
    const fields = await factFields(node.fact).catch(() => []);
    const { facts: declared } = await catalog();
    readEvents(node, (name) => fields.find((field) => field.name === name));
    const within = { ...context, fact: node.fact, fields, subject: "column" };
    const measures = fields.filter(canBeAdded).map((field) => field.name);
    const preferred = declared?.[node.fact]?.activity?.measures ?? [];
    fill(body, context.items(node.events, within), figuresEditor(node, context, { measures, preferred, show }), h("div", { class: "row-actions" },
      button("Condition on events", { kind: "quiet", name: "plus", onClick: () => { node.events.items.push(condition()); show(); context.changed(); } }),
      button("How often, how much", { kind: "quiet", name: "plus", onClick: () => { node.figures.push({ figure: "count", column: "", op: ">=", values: ["2"] }); show(); context.changed(); } })));
  };
  node.refresh = show;
  show();
  return h("div", { class: "behaviour" }, head, body);
}

function windowEditor(node, context) {
  const root = h("span", { class: "scalars" });
  const show = () => {
    const isAny = !node.within;
    const choose = select("When", [["any", "at any time"], ["within", "within the last"]], isAny ? "any" : "within", (value) => {
      node.within = value === "any" ? null : { number: "30", unit: "days" };
      show();
      context.changed();
    });
    const number = !isAny && h("input", { class: "input input-short", inputmode: "numeric", "aria-label": "How many", value: node.within.number, on: { input: () => { node.within.number = /^\d+$/.test(number.value.trim()) ? number.value.trim() : ""; context.changed(); } } });
    fill(
      root,
      choose,
      !isAny && [
        number,
        select("Unit", UNITS.map((unit) => [unit, unit]), node.within.unit, (unit) => { node.within.unit = unit; context.changed(); }),
        h("label", { class: "check", title: "Begin exactly so long ago instead of with whole days or hours" }, h("input", { type: "checkbox", checked: node.exact, on: { change: (event) => { node.exact = event.target.checked; context.changed(); } } }), "exact"),
      ],
    );
  };
  show();
  return root;
}

function figuresEditor(node, context, { measures, preferred, show }) {
  return node.figures.map((figure) => {
    const isTime = isMoment(figure);
    const comparisons = isTime ? MOMENTS : COMPARISONS;
    const change = () => context.changed();
    const columns = [...new Set([...preferred, ...measures, figure.column])].filter(Boolean);
    return h(
      "div",
      { class: "row figure" },
      h("span", { class: "row-join" }, "and"),
      select("What of them", FIGURES.filter(([name]) => name !== "sum" || columns.length), figure.figure, (value) => {
        const wasTime = isTime;
        Object.assign(figure, { figure: value, column: value === "sum" ? (columns[0] ?? "") : "" });
        const isNowTime = isMoment(figure);
        if (wasTime !== isNowTime) Object.assign(figure, { op: isNowTime ? "<" : ">=", values: [] });
        show();
        change();
      }),
      figure.figure === "sum" && select("Column", columns.map((column) => [column, column]), figure.column, (column) => { figure.column = column; change(); }),
      select("How", comparisons, figure.op, (op) => { figure.op = op; show(); change(); }),
      scalarInputs(figure, { name: "value", unit: isTime ? "timestamp" : null }, (values) => { figure.values = values; change(); }),
      h("span", { class: "grow" }),
      button("", { kind: "quiet", name: "close", label: "Remove", onClick: () => { node.figures = node.figures.filter((one) => one !== figure); show(); change(); } }),
    );
  });
}
