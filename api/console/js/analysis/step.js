// Events that somebody means: a fact, and which of its events, by conditions or as text. A step of a funnel or of a path, a visit that counts as
// coming back, a conversion and what led to it, what an experiment is measured by.

import { post } from "../core/api.js";
import { factFields } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { quoted } from "../core/format.js";
import { button } from "../components/button.js";
import { colours, editor, markOf } from "../components/code.js";
import { told } from "../components/state.js";
import { toast } from "../components/toast.js";
import { behaviour, condition, group, incomplete, keepsNumbers, readEvents, toTree } from "../builder/model.js";
import { items } from "../builder/tree.js";

/// Reads a step as the address and the command line have it: `purchase where amount >= 20`.
export function readStep(text) {
  const [, fact, where] = /^(.*?)(?:(?:^|\s)where\s(.*))?$/is.exec(text.trim());
  return { fact: fact.trim(), where: (where ?? "").trim() };
}

export const writeStep = ({ fact, where }) => (where ? `${fact} where ${where}` : fact);

/// With the column that tells its events apart: `visit by page where seconds > 3`.
export function readValuedStep(text) {
  const { fact, where } = readStep(text);
  const [, name, by] = /^(\S+)\s+by\s+(\S+)$/i.exec(fact) ?? [null, fact, ""];
  return { fact: name, by, where };
}

export const writeValuedStep = ({ fact, by, where }) => writeStep({ fact: by ? `${fact} by ${by}` : fact, where });

/// Which events are meant, as one tree; undefined for all.
function eventTree(node) {
  const where = toTree(node)?.where;
  return where && where.length > 1 ? { all: where } : where?.[0];
}

const keyOf = (node) => JSON.stringify(eventTree(node));
const begin = (fact) => `did(${quoted(fact)}, `;

/// The conditions of a node as text.
async function textOf(node, signal) {
  const tree = eventTree(node);
  if (tree === undefined) return "";
  const { where } = await post("/v1/translate", { where: { did: node.fact, where: [tree] } }, { signal });
  return where.slice(begin(node.fact).length, -1);
}

/// The conditions that a text stands for; null if they cannot say all of it.
async function treesOf(fact, text) {
  if (!keepsNumbers(text)) return null;
  const { tree } = await post("/v1/translate", { where: `${begin(fact)}${text})` });
  const { did, where, ...others } = tree;
  return did === fact && where?.length === 1 && Object.keys(others).length === 0 ? where : null;
}

/// An editor of a step. `none` is what it says while no fact is chosen; `changed()` is called at every change; `tools` stand at its end. `beside` are
/// choices among its columns (choice.js), by their name in what is read.
///
/// Its `read(signal)` gives what is on the screen as `{ fact, where }`, null if no fact is chosen; `showProblem` says what is wrong with it.
export function stepEditor({ fact = "", where = "" } = {}, { label = null, facts, none = "choose what", changed, tools, beside = {} }) {
  const choices = Object.values(beside);
  const node = behaviour(fact);
  const head = h("div", { class: "step-head" });
  const body = h("div", { class: "behaviour-body" });
  const left = h("p", { class: "count-left", hidden: true });
  const below = h("div", { class: "audience-problem", hidden: true });
  const root = h("div", { class: "step", role: "group", "aria-label": label }, h("div", { class: "step-editor" }, head, body, left, below), tools);
  // The text of these conditions: asked for again only when they have become others.
  let known = { key: keyOf(node), text: "" };
  let area = null;

  const edited = () => {
    const count = area ? 0 : incomplete(node.events);
    left.hidden = count === 0;
    fill(left, count === 1 ? "One condition is not complete and left out" : `${count} conditions are not complete and left out`);
    changed();
  };
  const chooseFact = (next) => {
    Object.assign(node, { fact: next, events: group() });
    known = { key: keyOf(node), text: "" };
    area = null;
    for (const choice of choices) choice.of([next]);
    show();
    edited();
  };
  const addCondition = async () => {
    const added = condition();
    node.events.items.push(added);
    await show();
    edited();
    document.getElementById(added.id)?.querySelector("input")?.focus();
  };
  const show = async () => {
    const names = facts.includes(node.fact) || !node.fact ? facts : [...facts, node.fact];
    const what = h("select", { class: "select", "aria-label": "Event", on: { change: () => chooseFact(what.value) } }, [["", none], ...names.map((name) => [name, name])].map(([value, text]) => h("option", { value, selected: value === node.fact }, text)));
    const hadFocus = head.contains(document.activeElement) && document.activeElement.tagName;
    fill(
      head,
      what,
      node.fact && choices,
      node.fact && !area && button("Condition", { kind: "quiet", name: "plus", onClick: addCondition }),
      node.fact && button("As text", { kind: "quiet", pressed: area !== null, title: "Write which of its events are meant", onClick: area ? toConditions : toText }),
    );
    if (hadFocus) (hadFocus === "SELECT" ? what : head.lastChild).focus();
    if (!node.fact) return fill(body);
    if (area) return fill(body, area.root);
    const fields = await factFields(node.fact).catch(() => []);
    readEvents(node, (name) => fields.find((field) => field.name === name));
    return fill(body, node.events.items.length > 0 && items(node.events, { fields, fact: node.fact, subject: "column", changed: edited, refresh: show }));
  };
  const asText = (text) => {
    area = editor({ label: "Which of its events", value: text, rows: 1, placeholder: "amount >= 20 AND category = 'shoes'", onInput: edited });
  };
  const toText = async () => {
    try {
      const { where: text } = await root.read();
      asText(text ?? "");
      await show();
      edited();
    } catch (error) {
      toast(error.message, { kind: "bad" });
    }
  };
  /// Shows conditions, if they can say what the text says; else the text stays.
  const toConditions = async () => {
    const text = area.value.trim();
    try {
      const trees = text ? await treesOf(node.fact, text) : [];
      if (!trees) return void toast("Conditions cannot say this: it stays a text.", { kind: "bad" });
      await take(trees, text);
      area = null;
      await show();
      edited();
    } catch (error) {
      toast(`The text has to be right first. ${error.message}`, { kind: "bad" });
    }
  };
  const take = async (trees, text) => {
    const fields = await factFields(node.fact).catch(() => []);
    Object.assign(node, { trees, events: group() });
    readEvents(node, (name) => fields.find((field) => field.name === name));
    known = { key: keyOf(node), text };
  };
  const open = async () => {
    for (const choice of choices) choice.of(node.fact ? [node.fact] : []);
    const trees = node.fact && where ? await treesOf(node.fact, where).catch(() => null) : [];
    if (trees) await take(trees, where ?? "");
    else asText(where);
    await show();
  };

  root.read = async (signal) => {
    await opened;
    if (!node.fact) return null;
    await Promise.all(choices.map((choice) => choice.ready));
    const others = Object.fromEntries(Object.entries(beside).map(([name, choice]) => [name, choice.chosen() || undefined]));
    if (area) return { fact: node.fact, where: area.value.trim() || undefined, ...others };
    const key = keyOf(node);
    if (key !== known.key) known = { key, text: await textOf(node, signal) };
    return { fact: node.fact, where: known.text || undefined, ...others };
  };
  root.showProblem = (problem) => {
    const span = problem?.pointer?.endsWith("/where") ? problem.span : null;
    area?.markWrong(span);
    below.hidden = !problem;
    if (problem) fill(below, span && !area && h("pre", {}, colours(known.text, markOf(known.text, span))), h("p", { role: "alert" }, told(problem)));
  };
  root.rename = (text) => root.setAttribute("aria-label", text);
  const opened = open();
  return root;
}
