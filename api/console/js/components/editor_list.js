// A list of editors: each can be moved and removed, and another one added. Steps of a funnel, groups of an experiment.

import { fill, h } from "../core/dom.js";
import { button } from "./button.js";
import { told } from "./state.js";

/// `make(value, tools)` gives an editor of one of the `values`, with the tools at its end, or of a new one if there is no value. It has
/// `read(signal)`, which gives null while it says nothing, `rename(label)` and `showProblem(problem)`. `noun` is what one is called, "Step"; there
/// are `least` to `most` of them; `changed()` is called when there are others or in another order.
///
/// Its `read(signal)` gives what the editors say, and `numbers()` the numbers that those stand by; `showProblem` finds the one that is meant by its
/// place in the body, as in `/steps/1/where`.
export function editorList({ noun, values, least = 1, most, make, changed }) {
  const one = noun.toLowerCase();
  const list = h("ol", { class: "steps" });
  const adder = button(noun, { kind: "quiet", name: "plus", onClick: () => add() });
  const said = h("p", { class: "unseen", role: "status" });
  const below = h("p", { class: "audience-problem", role: "alert", hidden: true });
  const root = h("div", { class: "editor-list" }, list, h("div", { class: "row-actions" }, adder), below, said);
  let entries = [];
  // Those that said something when they were read: the server counts no others.
  let asked = [];

  const entryOf = (value) => {
    const tool = (name, label, onClick) => button("", { kind: "quiet", name, label, onClick });
    const up = tool("up", "Move up", () => move(entry, -1));
    const down = tool("down", "Move down", () => move(entry, 1));
    const remove = tool("close", `Remove the ${one}`, () => drop(entry));
    const number = h("span", { class: "step-number", "aria-hidden": "true" });
    const editor = make(value, h("div", { class: "step-tools" }, up, down, remove));
    editor.prepend(number);
    const entry = { editor, number, up, down, remove };
    return entry;
  };
  const place = () => {
    fill(list, entries.map(({ editor }) => h("li", {}, editor)));
    entries.forEach(({ editor, number, up, down, remove }, at) => {
      editor.rename(`${noun} ${at + 1}`);
      fill(number, String(at + 1));
      up.disabled = at === 0;
      down.disabled = at === entries.length - 1;
      remove.disabled = entries.length <= least;
    });
    adder.disabled = entries.length >= most;
  };
  const add = () => {
    const entry = entryOf();
    entries.push(entry);
    place();
    requestAnimationFrame(() => entry.editor.querySelector("select, input")?.focus());
  };
  const drop = (entry) => {
    const at = entries.indexOf(entry);
    entries = entries.filter((other) => other !== entry);
    place();
    const next = entries[Math.min(at, entries.length - 1)];
    (next.remove.disabled ? adder : next.remove).focus();
    fill(said, `${noun} ${at + 1} is removed`);
    changed();
  };
  const move = (entry, by) => {
    const at = entries.indexOf(entry);
    entries.splice(at, 1);
    entries.splice(at + by, 0, entry);
    place();
    const [wanted, other] = by < 0 ? [entry.up, entry.down] : [entry.down, entry.up];
    (wanted.disabled ? other : wanted).focus();
    fill(said, `Now ${one} ${at + by + 1} of ${entries.length}`);
    changed();
  };

  entries = values.map(entryOf);
  while (entries.length < least) entries.push(entryOf());
  place();
  root.read = async (signal) => {
    const now = [...entries];
    const read = await Promise.all(now.map(({ editor }) => editor.read(signal)));
    signal.throwIfAborted();
    asked = now.filter((_, at) => read[at]);
    return read.filter(Boolean);
  };
  root.numbers = () => asked.map((entry) => entries.indexOf(entry) + 1);
  root.showProblem = (problem) => {
    const at = /^\/\w+\/(\d+)/.exec(problem?.pointer ?? "")?.[1];
    const meant = asked[at]?.editor;
    for (const { editor } of entries) editor.showProblem(editor === meant ? problem : null);
    below.hidden = !problem || Boolean(meant);
    fill(below, problem && !meant && told(problem));
  };
  return root;
}
