// Short notes at the edge: something is done, or goes on.

import { h, fill } from "../core/dom.js";
import { button } from "./button.js";

let shelf = null;

function place() {
  shelf ??= document.body.appendChild(h("div", { class: "toasts", role: "status", "aria-live": "polite" }));
  return shelf;
}

/// Goes by itself after a while.
export function toast(text, { kind, action } = {}) {
  const note = h("div", { class: `toast ${kind ? `toast-${kind}` : ""}` }, h("span", { class: "grow" }, text), action);
  place().append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 9_000 : 4_500);
  return note;
}

/// Stays until `done`; `say` changes what it says.
export function progress(text, onCancel) {
  const words = h("span", { class: "grow" }, text);
  const note = h("div", { class: "toast" }, h("span", { class: "spinner", "aria-hidden": "true" }), words, onCancel && button("Cancel", { kind: "quiet", onClick: onCancel }));
  place().append(note);
  return { say: (next) => fill(words, next), done: () => note.remove() };
}
