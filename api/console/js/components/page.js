// The head of a page.

import { h } from "../core/dom.js";

export function pageHead(title, text, ...actions) {
  return h("div", { class: "page-head" }, h("div", { class: "titles" }, h("h1", {}, title), text && h("p", {}, text)), actions.length > 0 && h("div", { class: "actions" }, actions));
}

export function card(title, content, ...actions) {
  return h("section", { class: "card" }, (title || actions.length > 0) && h("header", { class: "card-head" }, h("h2", { class: "grow" }, title), actions), h("div", { class: "card-body" }, content));
}

/// A figure with what it is of.
export function figure(label, value, note) {
  return h("div", { class: "figure-box" }, h("span", { class: "figure-label" }, label), h("span", { class: "figure-value" }, value), note && h("span", { class: "figure-note" }, note));
}
