// Days from one to another, both with all their hours: `["2026-11-01", "2026-11-14"]`.

import { h } from "../core/dom.js";
import { fieldAround } from "./fields.js";

/// `value` has both days, each "" if it is left out; `onChange` gets it so.
export function daysField({ label, value, onChange }) {
  const days = [...value];
  const input = (at, words) => {
    const day = h("input", { class: "input input-day", type: "date", "aria-label": `${label}, ${words}`, value: days[at], on: { input: () => { days[at] = day.value; onChange([...days]); } } });
    return day;
  };
  return fieldAround(label, h("div", { class: "scalars" }, input(0, "first"), h("span", { class: "muted", "aria-hidden": "true" }, "–"), input(1, "last")));
}
