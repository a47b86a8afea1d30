// A text field with a list of suggestions, for one value or for several: tags, values, audiences, facts.
//
// `options(query, signal)` gives `{ value, label, detail, count, share, icon }`, best first, now or later; the signal ends it when something
// else is asked for. The list may have `more`, how many it leaves out, and `note`, what is to be said of it. It follows the pattern
// "editable combobox with list" of the ARIA Authoring Practices.

import { h, fill, newId } from "../core/dom.js";
import { compact } from "../core/format.js";
import { Latest } from "../core/api.js";
import { icon } from "./icon.js";

const SHOWN_MAX = 100;

/// `free`: what is in no list may be written, too. `onChange` gets the value, or the values of several.
export function combobox({ label, placeholder = "", value = "", values = [], multiple = false, free = false, mono = false, options, onChange, describe = (one) => one, id }) {
  let chosen = multiple ? [...values] : value;
  let found = [];
  let active = -1;
  // Enter was pressed before what fits was found.
  let isEntered = false;
  const looking = new Latest();
  let isOpen = false;
  const listId = newId("list");
  const input = h("input", {
    id,
    class: "combobox-input",
    type: "text",
    role: "combobox",
    "aria-label": label,
    "aria-expanded": "false",
    "aria-controls": listId,
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: multiple && values.length ? "" : placeholder,
    value: multiple ? "" : describe(value),
  });
  const chips = h("span", { class: "combobox-chips" });
  const list = h("div", { class: "combobox-list", id: listId, role: "listbox", "aria-label": label, "aria-multiselectable": multiple ? "true" : null, hidden: true });
  const note = h("div", { class: "combobox-note", hidden: true });
  const popup = h("div", { class: "combobox-popup", hidden: true }, list, note);
  const box = h("div", { class: "combobox-box" }, chips, input, !multiple && h("span", { class: "combobox-arrow" }, icon("down", 14)));
  const root = h("div", { class: `combobox ${multiple ? "combobox-multiple" : ""} ${mono ? "mono" : ""}` }, box, popup);

  const showChips = () => {
    if (!multiple) return;
    fill(
      chips,
      chosen.map((one) =>
        h("span", { class: "token" }, h("span", { class: "clip" }, describe(one)), h("button", { type: "button", "aria-label": `Remove ${describe(one)}`, on: { click: () => { toggle(one); input.focus(); } } }, icon("close", 12))),
      ),
    );
    input.placeholder = chosen.length ? "" : placeholder;
  };

  const show = () => {
    list.hidden = found.length === 0;
    popup.hidden = !isOpen;
    input.setAttribute("aria-expanded", String(isOpen));
    fill(
      list,
      found.map((option, at) =>
        h(
          "div",
          { id: `${listId}-${at}`, role: "option", class: "combobox-option", "aria-selected": String(multiple ? chosen.includes(option.value) : option.value === chosen), data: { active: at === active }, on: { pointerdown: (event) => event.preventDefault(), click: () => take(option.value) } },
          option.share !== undefined && h("span", { class: "combobox-share", style: { width: `${Math.max(1, option.share * 100)}%` } }),
          multiple && h("span", { class: "combobox-check" }, chosen.includes(option.value) && icon("check", 14)),
          option.icon,
          h("span", { class: "grow clip" }, option.label ?? option.value),
          option.detail && h("span", { class: "muted small clip" }, option.detail),
          option.count !== undefined && h("span", { class: "number muted" }, compact(option.count)),
        ),
      ),
    );
    if (active >= 0) {
      input.setAttribute("aria-activedescendant", `${listId}-${active}`);
      list.children[active]?.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  };

  const say = (text) => {
    note.hidden = !text;
    fill(note, text);
  };

  const look = async () => {
    const query = isTyped() ? input.value.trim() : "";
    const waiting = setTimeout(() => say("Looking …"), 150);
    try {
      const all = await looking.run(async (signal) => options(query, signal));
      if (!all) return;
      found = all.slice(0, SHOWN_MAX);
      active = query && found.length ? 0 : -1;
      if (free && query && !found.some((option) => option.value.toLowerCase().startsWith(query.toLowerCase()))) active = -1;
      const more = (all.more ?? 0) + all.length - found.length;
      const none = free && query ? `Enter takes “${query}”` : "Nothing fits";
      say(all.note ?? (found.length === 0 ? none : more > 0 ? `${compact(more)} more: write to find them` : ""));
      if (isEntered && active >= 0) {
        isEntered = false;
        return take(found[active].value);
      }
    } catch (error) {
      found = [];
      say(error.message);
    } finally {
      clearTimeout(waiting);
      if (!looking.isRunning) isEntered = false;
    }
    show();
  };

  const isTyped = () => multiple || input.value !== describe(chosen);

  const open = () => {
    if (isOpen) return;
    isOpen = true;
    show();
    look();
  };

  const close = () => {
    isOpen = false;
    looking.cancel();
    active = -1;
    show();
  };

  const toggle = (one) => {
    chosen = chosen.includes(one) ? chosen.filter((other) => other !== one) : [...chosen, one];
    showChips();
    onChange([...chosen]);
  };

  const take = (one) => {
    if (multiple) {
      input.value = "";
      toggle(one);
      look();
      return;
    }
    chosen = one;
    input.value = describe(one);
    close();
    onChange(one);
  };

  /// What was written and not chosen from the list.
  const settle = () => {
    const text = input.value.trim();
    if (multiple) {
      if (free && text && !chosen.includes(text)) take(text);
      input.value = "";
    } else if (text === "" && chosen !== "" && free) take("");
    else if (free && text !== describe(chosen)) take(text);
    else input.value = describe(chosen);
  };

  input.addEventListener("focus", () => {
    if (!multiple) input.select();
  });
  input.addEventListener("click", open);
  input.addEventListener("input", () => {
    isEntered = false;
    open();
    look();
  });
  input.addEventListener("blur", () => {
    settle();
    close();
  });
  box.addEventListener("pointerdown", (event) => {
    if (event.target === input || event.target.closest("button")) return;
    event.preventDefault();
    input.focus();
    open();
  });
  input.addEventListener("keydown", (event) => {
    const move = (step) => {
      event.preventDefault();
      if (!isOpen) return open();
      const last = found.length - 1;
      active = step > 0 ? (active >= last ? Math.min(0, last) : active + 1) : active <= 0 ? last : active - 1;
      show();
    };
    if (event.key === "ArrowDown") move(1);
    else if (event.key === "ArrowUp") move(-1);
    else if (event.key === "Enter") {
      if (isOpen && !free && looking.isRunning) {
        event.preventDefault();
        isEntered = true;
      } else if (isOpen && active >= 0) {
        event.preventDefault();
        take(found[active].value);
      } else if (free) {
        event.preventDefault();
        settle();
        if (!multiple) close();
      }
    } else if (event.key === "Escape" && isOpen) {
      event.preventDefault();
      event.stopPropagation();
      if (!multiple) input.value = describe(chosen);
      else input.value = "";
      close();
    } else if (event.key === "Backspace" && multiple && input.value === "" && chosen.length) toggle(chosen.at(-1));
  });
  showChips();
  root.focusInput = () => input.focus();
  root.setValue = (next) => {
    chosen = multiple ? [...next] : next;
    if (!multiple) input.value = describe(next);
    showChips();
  };
  return root;
}

/// Options of a fixed list whose label contains what was written: first the very one, then those that begin with it.
export function filtered(all, query) {
  const text = query.toLowerCase();
  if (!text) return all;
  const rank = (option) => {
    const label = (option.label ?? option.value).toLowerCase();
    return label === text ? 0 : label.startsWith(text) ? 1 : label.includes(text) ? 2 : 3;
  };
  return all
    .map((option) => [rank(option), option])
    .filter(([at]) => at < 3)
    .sort(([a], [b]) => a - b)
    .map(([, option]) => option);
}
