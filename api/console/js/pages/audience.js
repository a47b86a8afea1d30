// Build an audience: conditions by clicking, or as text; how many fit, at once; save it, look at its members, take them along.

import { Latest, get, inParallel, isAbort, onEpoch, path, post, put } from "../core/api.js";
import { audiences, catalog, everybody, forget, tagFields } from "../core/catalog.js";
import { debounced, fill, h } from "../core/dom.js";
import { integer, microseconds, percent } from "../core/format.js";
import { address } from "../core/router.js";
import { annotate, treeEditor } from "../builder/tree.js";
import { fromTree, group, incomplete, leaves, toTree } from "../builder/model.js";
import { button, linkButton, menu, segmented } from "../components/button.js";
import { colours, editor, markOf } from "../components/code.js";
import { ask, field } from "../components/dialog.js";
import { FORMATS, download } from "../components/download.js";
import { card, pageHead } from "../components/page.js";
import { empty, failed, failure, loading } from "../components/state.js";
import { toast } from "../components/toast.js";
import { memberList } from "../builder/members.js";

const EDIT_MS = 80;
const LEAF_TIMEOUT_MS = 2_000;

export async function mount(root, params, context) {
  fill(root, loading(6));
  try {
    const [fields, document] = await Promise.all([tagFields(), catalog()]);
    const opened = await openedFrom(params, context.signal);
    if (context.signal.aborted) return;
    if (fields.length === 0) return fill(root, pageHead("Build an audience"), nothingDeclared());
    const tree = opened.tree;
    const types = (name) => fields.find((one) => one.name === name);
    new Builder(root, context, { fields, types, facts: Object.keys(document.facts ?? {}), spaces: Object.keys(document.spaces ?? {}) }, opened, tree === null ? group() : fromTree(tree, types)).show();
  } catch (error) {
    if (!isAbort(error)) fill(root, pageHead("Build an audience"), failed(error, () => mount(root, params, context)));
  }
}

function nothingDeclared() {
  return empty("No tags yet", "Declare some in a catalog and send users, or try the example data: beluga demo.", linkButton("Catalog", address("catalog")));
}

/// The audience that the address names: `name` of a saved one, `where` as text, which goes before it.
async function openedFrom(params, signal) {
  const name = params.get("name");
  let where = params.get("where");
  let saved = null;
  if (name) {
    saved = await get(path`/v1/audiences/${name}`, { signal });
    where ??= saved.where ?? `in_audience('${name.replaceAll("'", "''")}')`;
  }
  if (!where) return { name, saved, text: "", tree: null };
  try {
    const translated = await post("/v1/translate", { where }, { signal });
    return { name, saved, text: translated.where, tree: translated.tree };
  } catch (error) {
    if (isAbort(error) || error.status === 0) throw error;
    return { name, saved, text: where, tree: null, isBroken: true };
  }
}

class Builder {
  #counting = new Latest();
  #leafCounting = new Latest();
  #leafCounts = new Map();

  constructor(root, context, names, opened, model) {
    Object.assign(this, { root, context, names, opened, model });
    this.mode = opened.isBroken ? "text" : "tree";
    this.text = opened.text;
    this.refreshSoon = debounced(() => this.refresh(), EDIT_MS);
    this.problemPlace = h("div", {});
    this.countPlace = h("div", { class: "count" }, loading(3, "Counting"));
    // Says what an edit came to; figures that only follow the data say nothing.
    this.said = h("p", { class: "unseen", role: "status" });
    this.reads = h("pre", { class: "reads" });
    this.editPlace = h("div", {});
    this.membersPlace = h("div", {});
    onEpoch(() => this.countAgain(), context.signal);
    context.signal.addEventListener("abort", () => { this.refreshSoon.cancel(); this.#counting.cancel(); this.#leafCounting.cancel(); });
  }

  show() {
    const { opened } = this;
    const title = opened.name ? opened.name : "Build an audience";
    fill(
      this.root,
      pageHead(title, opened.saved?.description || (opened.name ? null : "Who, right now, fits this?"), opened.name && linkButton("New", address("audience"), { name: "plus" })),
      h(
        "div",
        { class: "builder" },
        h("div", { class: "builder-main" },
          h("div", { class: "builder-tools" }, segmented("How to edit", [["tree", "Conditions"], ["text", "Text"]], this.mode, (mode) => this.changeMode(mode)), h("span", { class: "grow" }), button("Clear", { kind: "quiet", onClick: () => this.clear() })),
          this.editPlace,
          this.problemPlace,
          this.readsCard = h("section", { class: "card reads-card" }, h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Reads as"), button("", { kind: "quiet", name: "copy", label: "Copy the expression", onClick: () => this.copy() })), this.reads),
          this.membersPlace,
        ),
        h("aside", { class: "builder-side", "aria-label": "How many fit" }, h("section", { class: "card count-card" }, this.countPlace, this.said, this.actions())),
      ),
    );
    this.showEditor();
    this.refresh();
  }

  actions() {
    const where = () => this.text || "TRUE";
    return h(
      "div",
      { class: "count-actions" },
      button("Save", { kind: "primary", name: "save", onClick: () => this.save() }),
      menu("Export", Object.entries(FORMATS).map(([format, { text }]) => ({ text, name: "download", onClick: () => download("/v1/members", { where: where() }, format, this.opened.name ?? "audience") })), { name: "download" }),
      button("Members", { name: "users", onClick: () => this.showMembers() }),
      button("Profile", { name: "insight", onClick: () => { location.hash = address("insight", { where: where() }); } }),
      this.names.spaces.length > 0 && button("Lookalike", { name: "lookalike", onClick: () => { location.hash = address("lookalike", { seed: where() }); } }),
    );
  }

  showEditor() {
    if (this.mode === "tree") {
      this.editor = null;
      fill(this.editPlace, treeEditor(this.model, { ...this.names, changed: () => this.refreshSoon() }));
    } else {
      this.editor = editor({ label: "Audience expression", value: this.text, rows: 5, placeholder: "gender = 'f' AND age BETWEEN 25 AND 34", onInput: () => this.refreshSoon(), onRun: () => this.refresh() });
      fill(this.editPlace, card("", this.editor.root));
    }
    this.readsCard.hidden = this.mode === "text";
  }

  changeMode(mode) {
    if (mode === "tree" && this.editor && this.textIsWrong) {
      toast("The text has to be right before it can be shown as conditions.", { kind: "bad" });
      return this.show();
    }
    this.mode = mode;
    this.showEditor();
    this.refresh();
  }

  clear() {
    this.model = group();
    this.text = "";
    this.showEditor();
    this.refresh();
  }

  /// Brings the other form, the count and the address to what is edited.
  async refresh() {
    fill(this.problemPlace);
    this.countPlace.dataset.waiting = "";
    const asText = this.editor ? this.editor.value.trim() : null;
    try {
      const answer = await this.#counting.run(async (signal) => {
        const sent = asText === null ? toTree(this.model) : asText || undefined;
        if (sent === undefined) {
          Object.assign(this, { text: "", sentText: "", conditions: [] });
          this.showText();
        } else {
          const translated = await post("/v1/translate", { where: sent }, { signal });
          this.text = translated.where;
          this.sentText = asText || translated.where;
          this.conditions = translated.conditions;
          if (asText !== null) this.model = fromTree(translated.tree, this.names.types);
          this.showText();
        }
        this.textIsWrong = false;
        const counted = await post("/v1/count", { where: this.sentText || "TRUE" }, { signal });
        return { ...counted, of: await everybody() };
      }, this.context.signal);
      if (!answer) return;
      this.showCount(answer);
      fill(this.said, `${integer(answer.count)} users fit`);
      this.showProblem(null);
      this.countLeaves();
    } catch (error) {
      this.showProblem(error);
    }
  }

  /// The data moved on: only the figures are asked for anew.
  async countAgain() {
    if (this.#counting.isRunning || this.problem || this.sentText === undefined || document.hidden) return;
    const answer = await this.#counting.run(async (signal) => ({ ...(await post("/v1/count", { where: this.sentText || "TRUE" }, { signal })), of: await everybody() }), this.context.signal).catch(() => undefined);
    if (!answer) return;
    this.showCount(answer);
    this.#leafCounts.clear();
    this.countLeaves();
  }

  showText() {
    const text = this.text || "TRUE";
    fill(this.reads, colours(text));
    const same = this.opened.saved && this.opened.saved.where === text;
    this.context.note({ name: this.opened.name, where: same ? null : this.text });
  }

  showCount({ count, epoch, elapsed_us: elapsed, of }) {
    delete this.countPlace.dataset.waiting;
    delete this.countPlace.dataset.old;
    this.hasCounted = true;
    const left = this.editor ? 0 : incomplete(this.model);
    const share = of > 0 ? count / of : 0;
    fill(
      this.countPlace,
      h("span", { class: "count-value", data: { count: String(count), epoch: String(epoch) } }, integer(count)),
      h("span", { class: "count-unit" }, count === 1 ? "user fits" : "users fit"),
      h("span", { class: "count-bar", role: "img", "aria-label": `${percent(share)} of all ${integer(of)} users` }, h("span", { style: { width: `${Math.min(100, share * 100)}%` } })),
      h("span", { class: "muted" }, `${percent(share)} of ${integer(of)}`),
      h("span", { class: "muted small" }, `Epoch ${integer(epoch)} · exact · ${microseconds(elapsed)}`),
      left > 0 && h("span", { class: "count-left" }, left === 1 ? "One condition is not complete and left out" : `${left} conditions are not complete and left out`),
    );
  }

  showProblem(problem) {
    this.problem = problem;
    delete this.countPlace.dataset.waiting;
    if (problem) this.countPlace.dataset.old = "";
    if (problem && !this.hasCounted) fill(this.countPlace, h("span", { class: "count-value" }, "–"), h("span", { class: "count-unit" }, "What is marked has to be right first"));
    for (const node of this.editor ? [] : leavesOf(this.model)) annotate(node, { problem: null, isIncomplete: toTree(node) === undefined, count: this.#leafCounts.get(JSON.stringify(toTree(node))) });
    if (this.editor) this.editor.markWrong(problem?.span ?? null);
    this.textIsWrong = Boolean(problem && this.editor && problem.kind === "syntax");
    if (!problem) return fill(this.problemPlace);
    if (!this.editor && problem.span) {
      const at = (this.conditions ?? []).findIndex(({ start, end }) => problem.span.start >= start && problem.span.start < end);
      const node = leaves(this.model)[at];
      fill(this.reads, colours(this.text, markOf(this.text, problem.span)));
      if (node && document.getElementById(node.id)) return annotate(node, { problem });
    }
    fill(this.problemPlace, failure(problem));
  }

  /// How many fit each condition alone, for the eye; what is slow or wrong has no figure.
  async countLeaves() {
    if (this.editor) return;
    const nodes = leavesOf(this.model).filter((node) => node.kind !== "likeness" && toTree(node) !== undefined);
    await this.#leafCounting.run((signal) =>
      inParallel(nodes, 4, async (node) => {
        const where = toTree(node);
        const key = JSON.stringify(where);
        if (!this.#leafCounts.has(key)) {
          const answer = await post("/v1/count", { where, timeout_ms: LEAF_TIMEOUT_MS }, { signal }).catch(() => null);
          if (!answer) return;
          this.#leafCounts.set(key, answer.count);
        }
        annotate(node, { count: this.#leafCounts.get(key) });
      }), this.context.signal);
  }

  async copy() {
    await navigator.clipboard.writeText(this.text || "TRUE");
    toast("Copied");
  }

  showMembers() {
    const where = this.text || "TRUE";
    fill(this.membersPlace, card("Members", memberList(where), button("", { kind: "quiet", name: "close", label: "Close the members", onClick: () => fill(this.membersPlace) })));
    this.membersPlace.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  async save() {
    const { saved, name: openedName } = this.opened;
    const name = h("input", { class: "input", required: true, value: openedName ?? "", maxlength: "128", autocomplete: "off" });
    const description = h("input", { class: "input", value: saved?.description ?? "", autocomplete: "off" });
    const live = h("input", { type: "checkbox", checked: Boolean(saved?.live) });
    const replace = h("input", { type: "checkbox" });
    const replaceRow = h("label", { class: "check", hidden: true }, replace, "Replace the audience that has this name");
    name.addEventListener("input", () => { replaceRow.hidden = true; replace.checked = false; });
    const where = this.text || "TRUE";
    const done = await ask({
      title: "Save the audience",
      content: [field("Name", name), field("Description", description), h("label", { class: "check" }, live, h("span", {}, "Live: note who enters and who leaves, as it happens")), replaceRow],
      onSubmit: async () => {
        const wanted = name.value.trim();
        const isOther = wanted !== openedName;
        if (isOther && !replace.checked && (await exists(wanted))) {
          replaceRow.hidden = false;
          throw new Error(`There is an audience “${wanted}” already.`);
        }
        return put(path`/v1/audiences/${wanted}`, { where, description: description.value.trim(), live: live.checked });
      },
    });
    if (!done) return;
    forget("audiences");
    toast(`Saved ${done.name}`);
    this.opened = { ...this.opened, name: done.name, saved: done };
    this.context.note({ name: done.name });
    this.show();
  }
}

function leavesOf(node) {
  return node.kind === "group" ? node.items.flatMap(leavesOf) : [node];
}

async function exists(name) {
  forget("audiences");
  return (await audiences()).some((audience) => audience.name === name);
}
