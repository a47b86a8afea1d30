// The tree of groups and conditions, edited in place.

import { h, fill } from "../core/dom.js";
import { audiences } from "../core/catalog.js";
import { compact, integer } from "../core/format.js";
import { button, menu } from "../components/button.js";
import { combobox, filtered } from "../components/combobox.js";
import { icon } from "../components/icon.js";
import { told } from "../components/state.js";
import { behaviourEditor } from "./behaviour.js";
import { conditionEditor } from "./condition.js";
import { behaviour, condition, group, likeness, membership, people } from "./model.js";
import { writtenCondition } from "./written.js";

const OPS = [["all", "All of"], ["any", "Any of"], ["none", "None of"], ["at_least", "At least"]];
const JOINS = { all: "and", any: "or", none: "nor", at_least: "or" };

/// An editor of a root group. `context` has `fields`, `facts`, `spaces` and `changed()`, which is called at every change.
export function treeEditor(root, context) {
  const element = h("div", { class: "tree" });
  const show = () => fill(element, groupEditor(root, { ...context, subject: "tag", fact: null, items, structure: show }, null));
  show();
  return element;
}

/// Shows how many users fit each condition, and what is wrong with it.
export function annotate(node, { count, problem, isIncomplete }) {
  const row = document.getElementById(node.id);
  if (!row) return;
  const place = row.querySelector(":scope > .row-main > .row-count");
  if (place) {
    fill(place, count === undefined ? "" : compact(count));
    place.title = count === undefined ? "" : `${integer(count)} users fit this condition alone`;
  }
  row.toggleAttribute("data-wrong", Boolean(problem));
  row.toggleAttribute("data-incomplete", Boolean(isIncomplete));
  const note = row.querySelector(":scope > .row-problem");
  if (note) {
    note.hidden = !problem;
    fill(note, problem && [icon("warning", 14), h("span", {}, told(problem))]);
  }
}

function groupEditor(node, context, onRemove) {
  const again = () => (context.subject === "tag" ? context.structure() : context.refresh());
  const op = h("select", { class: "select group-op", "aria-label": "How conditions of this group are joined", on: { change: () => { node.op = op.value; again(); context.changed(); } } }, OPS.map(([value, text]) => h("option", { value, selected: value === node.op }, text)));
  const k = node.op === "at_least" && h("input", { class: "input input-short", type: "number", min: "1", max: String(Math.max(1, node.items.length)), "aria-label": "How many", value: String(node.k), on: { input: () => { node.k = Number(k.value) || 1; context.changed(); } } });
  const add = (item) => {
    node.items.push(item);
    again();
    context.changed();
    document.getElementById(item.id)?.querySelector("input, select")?.focus();
  };
  const isRoot = !onRemove;
  return h(
    "section",
    { class: "group", id: node.id, data: { op: node.op, root: isRoot }, "aria-label": isRoot ? "Conditions" : "Group of conditions" },
    h("header", { class: "group-head" }, op, k, h("span", { class: "muted" }, node.op === "at_least" ? "of these" : "these"), h("span", { class: "grow" }), onRemove && button("", { kind: "quiet", name: "close", label: "Remove the group", onClick: onRemove })),
    items(node, { ...context, again }),
    node.items.length === 0 && h("p", { class: "group-empty" }, isRoot ? "Everybody, so far. Add what they should be, or have done." : "An empty group asks for nothing."),
    h("footer", { class: "row-actions" }, addButtons(context, add)),
  );
}

function addButtons(context, add) {
  const ofEvents = context.subject === "column";
  const addGroup = { text: "Group", name: "build", detail: "all, any or none of", onClick: () => add(group("any", [condition()])) };
  if (ofEvents) return [button("Condition", { kind: "quiet", name: "plus", onClick: () => add(condition()) })];
  return [
    button("Tag", { kind: "quiet", name: "plus", onClick: () => add(condition()) }),
    context.facts.length > 0 && button("Behaviour", { kind: "quiet", name: "plus", onClick: () => add(behaviour(context.facts.length === 1 ? context.facts[0] : "")) }),
    button("Audience", { kind: "quiet", name: "plus", onClick: () => add(membership()) }),
    button("Group", { kind: "quiet", name: "plus", onClick: () => addGroup.onClick() }),
    menu("More", [
      ...(context.spaces.length ? [{ text: "Users like others", name: "lookalike", onClick: () => add(likeness(context.spaces[0])) }] : []),
      { text: "Single users by id", name: "users", onClick: () => add(people()) },
    ], { kind: "quiet" }),
  ];
}

/// The items of a group, a row each.
export function items(node, context) {
  const again = context.again ?? (() => context.refresh?.());
  const remove = (item) => {
    node.items = node.items.filter((other) => other !== item);
    again();
    context.changed();
  };
  return h(
    "ol",
    { class: "items" },
    node.items.map((item, at) => {
      const join = at === 0 ? (context.subject === "column" && !context.again ? "where" : "") : JOINS[node.op];
      if (item.kind === "group") return h("li", { class: "row row-group" }, h("span", { class: "row-join" }, join), groupEditor(item, { ...context, again: undefined, refresh: again }, () => remove(item)));
      return h(
        "li",
        { class: "row", id: item.id, data: { kind: item.kind } },
        h("div", { class: "row-main" }, h("span", { class: "row-join" }, join), h("div", { class: "row-editor" }, leafEditor(item, { ...context, refresh: () => item.refresh?.() })), context.subject === "tag" && h("span", { class: "row-count" }), button("", { kind: "quiet", name: "close", label: "Remove this condition", onClick: () => remove(item) })),
        h("p", { class: "row-problem", role: "alert", hidden: true }),
      );
    }),
  );
}

function leafEditor(node, context) {
  switch (node.kind) {
    case "condition":
      return conditionEditor(node, context);
    case "behaviour":
      return behaviourEditor(node, { ...context, items, again: undefined });
    case "membership":
      return membershipEditor(node, context);
    case "likeness":
      return likenessEditor(node, context);
    case "people":
      return peopleEditor(node, context);
    default:
      return writtenCondition(node.tree);
  }
}

const whether = (node, context, yes, no) => {
  const element = h("select", { class: "select", "aria-label": "Whether", on: { change: () => { node.negated = element.value === "no"; context.changed(); } } }, h("option", { value: "yes", selected: !node.negated }, yes), h("option", { value: "no", selected: node.negated }, no));
  return element;
};

const savedAudiences = async (query) => filtered((await audiences()).map(({ name, description, where, live }) => ({ value: name, detail: description || where || "uploaded list", count: live?.size ?? undefined })), query);

function membershipEditor(node, context) {
  return h(
    "div",
    { class: "condition" },
    whether(node, context, "is in", "is not in"),
    combobox({ label: "Audience", placeholder: "Choose an audience", value: node.name, options: savedAudiences, onChange: (name) => { node.name = name; context.changed(); } }),
  );
}

function likenessEditor(node, context) {
  const space = h("select", { class: "select", "aria-label": "Vector space", on: { change: () => { node.space = space.value; context.changed(); } } }, context.spaces.map((name) => h("option", { value: name, selected: name === node.space }, name)));
  const amount = h("select", { class: "select", "aria-label": "How many", on: { change: () => { node.amount = amount.value; context.changed(); } } }, h("option", { value: "size", selected: node.amount === "size" }, "users"), h("option", { value: "share", selected: node.amount === "share" }, "share, to 1"));
  const value = h("input", { class: "input input-number", inputmode: "decimal", "aria-label": "Size", value: node.value, on: { input: () => { node.value = value.value; context.changed(); } } });
  return h(
    "div",
    { class: "condition" },
    whether(node, context, "is like", "is not like"),
    combobox({ label: "Seed audience", placeholder: "Seed audience", value: node.seed, options: savedAudiences, onChange: (name) => { node.seed = name; context.changed(); } }),
    h("span", { class: "muted" }, "in"),
    space,
    h("span", { class: "muted" }, "the nearest"),
    value,
    amount,
  );
}

function peopleEditor(node, context) {
  return h(
    "div",
    { class: "condition" },
    whether(node, context, "user is one of", "user is none of"),
    combobox({ label: "User ids", placeholder: "User ids, Enter after each", multiple: true, free: true, mono: true, values: node.ids, options: () => [], onChange: (ids) => { node.ids = ids; context.changed(); } }),
  );
}
