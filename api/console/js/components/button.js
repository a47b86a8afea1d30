// Buttons, segmented choices and menus.

import { h, fill, newId } from "../core/dom.js";
import { icon } from "./icon.js";

/// `kind`: "primary", "quiet", "danger" or nothing. With an icon and no text, `label` is what it is called.
export function button(text, { kind, name, label, onClick, type = "button", disabled, title, pressed } = {}) {
  const classes = ["button", kind && `button-${kind}`, !text && "button-icon"].filter(Boolean).join(" ");
  return h(
    "button",
    { type, class: classes, "aria-label": text ? null : label, "aria-pressed": pressed === undefined ? null : String(pressed), title: title ?? (text ? null : label), disabled, on: onClick && { click: onClick } },
    name && icon(name),
    text,
  );
}

export function linkButton(text, href, { kind, name } = {}) {
  return h("a", { class: `button ${kind ? `button-${kind}` : ""}`, href }, name && icon(name), text);
}

/// One of a few: `options` are `[value, text]`. Its `choose(value)` shows another as chosen.
export function segmented(label, options, value, onChange) {
  const group = newId("segment");
  const root = h(
    "div",
    { class: "segmented", role: "radiogroup", "aria-label": label },
    options.map(([option, text]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: group, value: option, checked: option === value, on: { change: () => onChange(option) } }),
        h("span", {}, text),
      ),
    ),
  );
  root.choose = (option) => {
    root.querySelector(`input[value="${CSS.escape(option)}"]`).checked = true;
  };
  return root;
}

/// A button that opens a list of actions: `items` are `{ text, name, onClick }`.
export function menu(text, items, { kind, name, label } = {}) {
  const list = h("div", { class: "menu", role: "menu", hidden: true });
  const opener = button(text, { kind, name, label });
  opener.setAttribute("aria-haspopup", "menu");
  opener.setAttribute("aria-expanded", "false");
  if (text) opener.append(icon("down", 14));
  const root = h("div", { class: "menu-root" }, opener, list);
  const close = () => {
    list.hidden = true;
    opener.setAttribute("aria-expanded", "false");
    removeEventListener("pointerdown", outside, true);
  };
  const outside = (event) => {
    if (!root.contains(event.target)) close();
  };
  const focusAt = (at) => {
    const all = [...list.children];
    all[(at + all.length) % all.length]?.focus();
  };
  const open = () => {
    fill(
      list,
      (typeof items === "function" ? items() : items).map((item) =>
        h("button", { type: "button", role: "menuitem", tabindex: "-1", class: item.kind ? `menu-${item.kind}` : null, on: { click: () => { close(); opener.focus(); item.onClick(); } } }, item.name && icon(item.name), h("span", { class: "grow" }, item.text), item.detail && h("span", { class: "muted small" }, item.detail)),
      ),
    );
    list.hidden = false;
    opener.setAttribute("aria-expanded", "true");
    addEventListener("pointerdown", outside, true);
    focusAt(0);
  };
  opener.addEventListener("click", () => (list.hidden ? open() : close()));
  list.addEventListener("keydown", (event) => {
    const at = [...list.children].indexOf(document.activeElement);
    if (event.key === "ArrowDown") focusAt(at + 1);
    else if (event.key === "ArrowUp") focusAt(at - 1);
    else if (event.key === "Home") focusAt(0);
    else if (event.key === "End") focusAt(-1);
    else if (event.key === "Escape" || event.key === "Tab") {
      close();
      opener.focus();
      if (event.key === "Tab") return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return root;
}
