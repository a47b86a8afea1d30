// A matrix in colours: how much audiences share, pair by pair.

import { h } from "../core/dom.js";

/// The strongest colour, in percent: text on it is still well read, light or dark.
const STRONGEST = 55;

/// `cell(i, j)` gives `{ value, text, title }`; the value, from 0 to 1, is the colour's strength.
export function heatMap({ label, names, cell, onCell }) {
  return h(
    "div",
    { class: "table-scroll", role: "region", "aria-label": label, tabindex: "0" },
    h(
      "table",
      { class: "heat" },
      h("caption", { class: "unseen" }, label),
      h("thead", {}, h("tr", {}, h("td", {}), names.map((name) => h("th", { scope: "col", title: name }, h("span", { class: "clip" }, name))))),
      h(
        "tbody",
        {},
        names.map((name, i) =>
          h(
            "tr",
            {},
            h("th", { scope: "row", class: "clip", title: name }, name),
            names.map((_, j) => {
              const { value, text, title } = cell(i, j);
              const strength = Math.round(Math.min(1, Math.max(0, value)) * STRONGEST);
              return h("td", { class: i === j ? "heat-self" : null }, h("button", { type: "button", title, style: { "--heat": `${strength}%` }, on: { click: () => onCell(i, j) } }, text));
            }),
          ),
        ),
      ),
    ),
  );
}
