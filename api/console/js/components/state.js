// What stands where there is nothing to show: nothing yet, waiting, or something that went wrong.

import { h } from "../core/dom.js";
import { button } from "./button.js";
import { icon } from "./icon.js";

export function empty(title, text, ...actions) {
  return h("div", { class: "state" }, icon("empty", 28), h("p", { class: "state-title" }, title), text && h("p", {}, text), actions.length > 0 && h("div", { class: "state-actions" }, actions));
}

/// So many grey lines, in the place of what comes.
export function loading(lines = 3, label = "Loading") {
  const widths = ["92%", "78%", "85%", "64%", "88%", "71%"];
  return h(
    "div",
    { class: "skeleton", role: "status" },
    h("span", { class: "unseen" }, label),
    Array.from({ length: lines }, (_, at) => h("span", { class: "skeleton-line", "aria-hidden": "true", style: { width: widths[at % widths.length] } })),
  );
}

/// What a problem says, with what to write instead; names in backticks are shown as code.
export function told(problem) {
  const text = problem.suggestion ? `${problem.message}; ${problem.suggestion}` : problem.message;
  return text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/// A problem where it belongs, with what to do about it.
export function failed(problem, retry) {
  return h(
    "div",
    { class: "state state-bad", role: "alert" },
    icon("warning", 24),
    h("p", { class: "state-title" }, problem.title || "Something went wrong"),
    h("p", {}, told(problem)),
    retry && h("div", { class: "state-actions" }, button("Try again", { onClick: retry })),
  );
}

/// The same in a line.
export function failure(problem) {
  return h("p", { class: "inline-problem", role: "alert" }, icon("warning", 14), h("span", {}, told(problem)));
}

export function chip(text, kind) {
  return h("span", { class: `chip ${kind ? `chip-${kind}` : ""}` }, text);
}
