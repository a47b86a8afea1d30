// Dialogs: a question that wants an answer, and a drawer at the side.

import { h } from "../core/dom.js";
import { button } from "./button.js";
import { failure } from "./state.js";

/// Opens a dialog. `onSubmit` may be asynchronous; the dialog stays open, with the problem, if it fails. It gets a signal that ends it when the
/// dialog is closed. Gives its result, or undefined.
export function ask({ title, text, content = [], submit = "Save", kind = "primary", onSubmit, canCancel = true }) {
  return new Promise((resolve) => {
    const closed = new AbortController();
    const problem = h("div", {});
    const send = button(submit, { kind, type: "submit" });
    const form = h(
      "form",
      { method: "dialog", class: "dialog-body" },
      h("h2", { id: "dialog-title" }, title),
      text && h("p", { class: "muted" }, text),
      content,
      problem,
      h("div", { class: "dialog-actions" }, canCancel && button("Cancel", { kind: "quiet", onClick: () => close(undefined) }), send),
    );
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, form);
    const close = (value) => {
      closed.abort();
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      if (canCancel) close(undefined);
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      send.disabled = true;
      problem.replaceChildren();
      try {
        const value = await onSubmit(closed.signal);
        if (!closed.signal.aborted) close(value);
      } catch (error) {
        if (closed.signal.aborted) return;
        problem.replaceChildren(failure(error));
        send.disabled = false;
      }
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/// Something to look at, at the side; closed by Escape, a click beside it, or its button.
export function drawer(title, ...content) {
  const close = () => {
    dialog.close();
    dialog.remove();
  };
  const dialog = h(
    "dialog",
    { class: "drawer", "aria-label": title, on: { cancel: close, click: (event) => event.target === dialog && close() } },
    h("div", { class: "drawer-body" }, h("div", { class: "drawer-head" }, h("h2", { class: "grow clip" }, title), button("", { kind: "quiet", name: "close", label: "Close", onClick: close })), content),
  );
  document.body.append(dialog);
  dialog.showModal();
  addEventListener("hashchange", close, { once: true });
  return dialog;
}

export function field(label, control, hint) {
  return h("label", { class: "field" }, h("span", { class: "field-label" }, label), control, hint && h("span", { class: "field-hint" }, hint));
}
