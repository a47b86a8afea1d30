// Ctrl K: jump to a page or a saved audience.

import { audiences } from "../core/catalog.js";
import { h } from "../core/dom.js";
import { address } from "../core/router.js";
import { combobox, filtered } from "./combobox.js";

export function openPalette(pages) {
  const box = combobox({
    label: "Jump to",
    placeholder: "A page, or a saved audience",
    options: async (query) => {
      const saved = await audiences().catch(() => []);
      return filtered([...pages, ...saved.map(({ name }) => ({ value: address("audience", { name }), label: name, detail: "audience" }))], query);
    },
    onChange: (target) => {
      close();
      location.hash = target;
    },
  });
  const close = () => {
    dialog.close();
    dialog.remove();
  };
  const dialog = h("dialog", { class: "dialog palette", "aria-label": "Jump to", on: { cancel: close, click: (event) => event.target === dialog && close() } }, box);
  document.body.append(dialog);
  dialog.showModal();
  box.focusInput();
  box.querySelector("input").click();
}

