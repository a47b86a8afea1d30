// A group of an experiment: a name, who was put into it, and how many were planned.

import { fill, h } from "../core/dom.js";
import { audienceField } from "../components/audience_field.js";
import { inputField } from "../components/fields.js";
import { told } from "../components/state.js";

const SAVED = /^in_audience\('((?:[^']|'')*)'\)$/;
const NAME = /^[\p{L}\p{N}_\-. ]+$/u;

/// Reads a group as the address and the command line have it: `new=in_audience('shown_new')`.
export function readGroup(text) {
  const at = text.indexOf("=");
  const name = text.slice(0, at).trim();
  // Without a name the first `=` may be one of the expression.
  return at > 0 && NAME.test(name) ? { name, where: text.slice(at + 1).trim() } : { name: "", where: text.replace(/^=/, "").trim() };
}

export const writeGroup = ({ name, where }) => `${name}=${where}`;

/// An editor of a group; see `editorList`. A group without a name is called as the saved audience it is, or by its number.
export function groupEditor({ name = "", where = "", weight = "" } = {}, { changed, tools }) {
  const group = { name, where, weight };
  const change = (key) => (value) => {
    group[key] = value;
    if (key === "where") suggest();
    changed();
  };
  const below = h("p", { class: "audience-problem", role: "alert", hidden: true });
  const named = inputField({ label: "Name", value: name, maxlength: "60", onInput: change("name") });
  const whom = audienceField({ label: "Who was put into it", value: where, otherwise: "A saved audience, or an expression", onChange: change("where") });
  const planned = inputField({ label: "Planned", value: weight, placeholder: "1", inputmode: "decimal", class: "input input-short", onInput: change("weight") });
  const root = h("div", { class: "step", role: "group" }, h("div", { class: "step-editor" }, h("div", { class: "group-fields" }, named, whom, planned), below), tools);
  let label = "Group";
  const called = () => group.name || (SAVED.exec(group.where)?.[1].replaceAll("''", "'") ?? label);
  const suggest = () => { named.querySelector("input").placeholder = called(); };

  root.read = async () => {
    if (!group.where) return null;
    const read = { name: called(), where: group.where };
    if (group.weight) read.weight = Number.isFinite(Number(group.weight)) ? Number(group.weight) : group.weight;
    return read;
  };
  root.rename = (text) => {
    label = text;
    root.setAttribute("aria-label", text);
    suggest();
  };
  root.showProblem = (problem) => {
    const field = { name: named, where: whom, weight: planned }[/\/(\w+)$/.exec(problem?.pointer ?? "")?.[1]];
    for (const one of [named, whom, planned]) one.showProblem(one === field ? problem : null);
    below.hidden = !problem || Boolean(field);
    fill(below, problem && !field && told(problem));
  };
  return root;
}
