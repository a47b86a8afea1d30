// A length of time: a number and a unit, as `7 days`.

import { fill, h } from "../core/dom.js";
import { told } from "./state.js";

/// `value` is as the server reads it; with `otherwise` it may be empty, and that is what it means then. `onChange` gets it, "" for none.
export function spanField({ label, value, units, otherwise, first = "30 days", onChange }) {
  const below = h("p", { class: "audience-problem", role: "alert", hidden: true });
  const controls = h("div", { class: "scalars" });
  const root = h("div", { class: "field", role: "group", "aria-label": label }, h("span", { class: "field-label" }, label), controls, below);
  const show = () => {
    const [, written = "", unit = units[0]] = /^\s*(\d+)\s*(\w+?)s?\s*$/.exec(value) ?? [];
    const change = () => {
      // What is no length of time is told by the server.
      value = `${number.value.trim()} ${chosen.value}`;
      onChange(value);
    };
    const number = h("input", { class: "input input-short", inputmode: "numeric", "aria-label": `${label}, how many`, value: written, on: { input: change } });
    const chosen = h("select", { class: "select", "aria-label": `${label}, unit`, on: { change } }, units.map((name) => h("option", { value: name, selected: name === unit || name === `${unit}s` }, name)));
    const whether = otherwise && h("select", { class: "select", "aria-label": label, on: { change: () => { value = whether.value === "any" ? "" : first; show(); controls.firstChild.focus(); onChange(value); } } }, h("option", { value: "any", selected: !value }, otherwise), h("option", { value: "within", selected: Boolean(value) }, "the last"));
    fill(controls, whether, (value || !otherwise) && [number, chosen]);
  };
  show();
  root.showProblem = (problem) => {
    below.hidden = !problem;
    fill(below, problem && told(problem));
  };
  return root;
}
