// Fields of a form: a label, a control, and below it what is wrong with what is there.

import { fill, h } from "../core/dom.js";
import { told } from "./state.js";

/// A field around a control. Its `showProblem` says what is wrong, null for nothing.
export function fieldOf(label, control) {
  const root = h("div", { class: "field" }, h("label", {}, h("span", { class: "field-label" }, label), control));
  return withProblem(root);
}

/// The same around several controls, each of which has a name of its own.
export function fieldAround(label, ...controls) {
  return withProblem(h("div", { class: "field", role: "group", "aria-label": label }, h("span", { class: "field-label" }, label), controls));
}

function withProblem(root) {
  const below = h("p", { class: "audience-problem", role: "alert", hidden: true });
  root.append(below);
  root.showProblem = (problem) => {
    below.hidden = !problem;
    fill(below, problem && told(problem));
  };
  return root;
}

/// What has a name of its own for those who do not see this one.
export const labelled = (label, control) => h("div", { class: "field" }, h("span", { class: "field-label", "aria-hidden": "true" }, label), control);

/// One line of text. `attributes` are of the input.
export function inputField({ label, value, onInput, ...attributes }) {
  const input = h("input", { class: "input", value, ...attributes, on: { input: () => onInput(input.value.trim()) } });
  const root = fieldOf(label, input);
  root.setValue = (next) => { input.value = next; };
  return root;
}

/// One of a few: `options` are `[value, text]`. Its `offer(options, value)` says which there are now.
export function selectField({ label, value, options, onChange }) {
  const select = h("select", { class: "select select-wide", on: { change: () => onChange(select.value) } });
  const root = fieldOf(label, select);
  let known = "";
  root.offer = (offered, chosen) => {
    // Other options would end what is being chosen.
    if (known !== JSON.stringify(offered)) fill(select, offered.map(([option, text]) => h("option", { value: option }, text)));
    known = JSON.stringify(offered);
    select.value = chosen;
  };
  root.offer(options, value);
  return root;
}

/// What may be so or not.
export function check(text, checked, onChange, title) {
  return h("label", { class: "check", title }, h("input", { type: "checkbox", checked, on: { change: (event) => onChange(event.target.checked) } }), text);
}
