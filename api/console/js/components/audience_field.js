// A field for an audience: one that is saved, or an expression.

import { h, fill } from "../core/dom.js";
import { audiences } from "../core/catalog.js";
import { quoted } from "../core/format.js";
import { colours, markOf } from "./code.js";
import { combobox, filtered } from "./combobox.js";
import { told } from "./state.js";

/// `otherwise` is what an empty field means.
export function audienceField({ label, value, otherwise = "Everybody", onChange }) {
  const below = h("div", { class: "audience-problem", hidden: true });
  let current = value;
  const box = combobox({
    label,
    value,
    placeholder: otherwise,
    free: true,
    mono: true,
    options: async (query) => {
      const saved = (await audiences()).map((audience) => ({ value: `in_audience(${quoted(audience.name)})`, label: audience.name, detail: audience.description || audience.where || "uploaded list" }));
      return filtered(saved, query);
    },
    onChange: (text) => {
      current = text;
      onChange(text);
    },
  });
  const root = h("div", { class: "field" }, h("span", { class: "field-label" }, label), box, below);
  /// Shows a problem of this expression, with its place; null for none.
  root.showProblem = (problem) => {
    below.hidden = !problem;
    if (problem) fill(below, problem.span && h("pre", {}, colours(current, markOf(current, problem.span))), h("p", { role: "alert" }, told(problem)));
  };
  root.setValue = (text) => {
    current = text;
    box.setValue(text);
  };
  return root;
}
