// An editor for expressions and statements: a text area over the same text in colours, with what is wrong marked.

import { h, fill } from "../core/dom.js";
import { indexOfByte } from "../core/format.js";

const WORDS = new Set(
  "all and as asc between by case cast cross date day desc distinct else end except exists explain false filter first from full group having hour hours in inner intersect interval is join last left like ilike limit minute month not null nulls offset on or order outer over partition right second select show tables then true union unnest using values week when where with within xor year exclude seed share size method".split(" "),
);
const TOKENS = /('(?:[^']|'')*'?)|("(?:[^"]|"")*"?)|(--[^\n]*)|(\b\d+(?:\.\d+)?\b)|([A-Za-z_]\w*)|(\s+)|(.)/gsu;

function painted(text) {
  const parts = [];
  for (const match of text.matchAll(TOKENS)) {
    const [all, string, , comment, number, word] = match;
    let kind = null;
    if (string) kind = "string";
    else if (comment) kind = "comment";
    else if (number) kind = "number";
    else if (word && WORDS.has(word.toLowerCase())) kind = "word";
    else if (word && text[match.index + all.length] === "(") kind = "call";
    parts.push({ start: match.index, end: match.index + all.length, text: all, kind });
  }
  return parts;
}

/// The text in colours; `mark` is `{ start, end }` of what is wrong, in UTF-16 units.
export function colours(text, mark) {
  const nodes = [];
  for (const part of painted(text)) {
    const cuts = mark ? [part.start, mark.start, mark.end, part.end].filter((at) => at >= part.start && at <= part.end).sort((a, b) => a - b) : [part.start, part.end];
    for (let at = 0; at + 1 < cuts.length; at += 1) {
      if (cuts[at] === cuts[at + 1]) continue;
      const isWrong = mark && cuts[at] >= mark.start && cuts[at + 1] <= mark.end;
      const classes = [part.kind && `code-${part.kind}`, isWrong && "code-wrong"].filter(Boolean).join(" ");
      const piece = text.slice(cuts[at], cuts[at + 1]);
      nodes.push(classes ? h("span", { class: classes }, piece) : document.createTextNode(piece));
    }
  }
  if (mark && mark.start >= text.length) nodes.push(h("span", { class: "code-wrong" }, " "));
  return nodes;
}

/// A span of bytes as a mark; an empty one, as at the end of a text, is widened so that it can be seen.
export function markOf(text, span) {
  if (!span) return null;
  const start = indexOfByte(text, span.start);
  const end = Math.max(indexOfByte(text, span.end), start + 1);
  return { start, end };
}

export function editor({ label, value = "", placeholder = "", rows = 4, onInput, onRun }) {
  const under = h("pre", { class: "code-under", "aria-hidden": "true" });
  const area = h("textarea", { class: "code-area", "aria-label": label, spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "soft", rows, placeholder, value });
  const root = h("div", { class: "code" }, under, area);
  let mark = null;
  const paint = () => {
    fill(under, colours(area.value, mark), "\n");
    area.style.setProperty("height", "auto");
    area.style.setProperty("height", `${area.scrollHeight + 2}px`);
  };
  area.addEventListener("input", () => {
    mark = null;
    paint();
    onInput?.(area.value);
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onRun?.(area.value);
    }
  });
  requestAnimationFrame(paint);
  return {
    root,
    get value() {
      return area.value;
    },
    set value(text) {
      area.value = text;
      mark = null;
      paint();
    },
    /// Shows where something is wrong: bytes of the text, as problems tell them; null for nothing.
    markWrong(span) {
      mark = markOf(area.value, span);
      area.setAttribute("aria-invalid", String(Boolean(span)));
      paint();
    },
    insert(text) {
      area.focus();
      area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
      area.dispatchEvent(new Event("input"));
    },
    focus: () => area.focus(),
  };
}
