// Build an audience: conditions by clicking, or as text; how many fit, at once; save it, look at its members, take them along.

import { Latest, inParallel, isAbort, onEpoch, path, post, versioned } from "../core/api.js";
import { catalog, everybody, forget, tagFields } from "../core/catalog.js";
import { debounced, fill, h } from "../core/dom.js";
import { integer } from "../core/format.js";
import { address, go } from "../core/router.js";
import { counted } from "../builder/count.js";
import { memberList } from "../builder/members.js";
import { fromTree, group, incomplete, keepsNumbers, leaves, toTree } from "../builder/model.js";
import { openedFrom } from "../builder/opened.js";
import { annotate, treeEditor } from "../builder/tree.js";
import { button, linkButton, menu, segmented } from "../components/button.js";
import { colours, editor, markOf } from "../components/code.js";
import { ask, field } from "../components/dialog.js";
import { FORMATS, download } from "../components/download.js";
import { naming } from "../components/naming.js";
import { card, pageHead } from "../components/page.js";
import { empty, failed, failure, loading } from "../components/state.js";
import { toast } from "../components/toast.js";

const EDIT_MS = 80;
const LEAF_TIMEOUT_MS = 2_000;

export async function mount(root, params, context) {
  fill(root, loading(6));
  try {
    const [fields, document] = await Promise.all([tagFields(), catalog()]);
    const opened = await openedFrom(params, context.signal);
    if (context.signal.aborted) return;
    if (fields.length === 0) return fill(root, pageHead("Build an audience"), nothingDeclared());
    const { tree } = opened;
    const types = (name) => fields.find((one) => one.name === name);
    new Builder(root, context, { fields, types, facts: Object.keys(document.facts ?? {}), spaces: Object.keys(document.spaces ?? {}) }, opened, tree === null ? group() : fromTree(tree, types)).show();
  } catch (error) {
    if (!isAbort(error)) fill(root, pageHead("Build an audience"), failed(error, () => mount(root, params, context)));
  }
}

function nothingDeclared() {
  return empty("No tags yet", "Declare some in a catalog and send users, or try the example data: beluga demo.", linkButton("Catalog", address("catalog")));
}

class Builder {
  // Each edit is read by the server before anything is done with it: `text` and `model` are what is on the screen once it is.
  #edits = 0;
  #readEdits = -1;
  #reading = new Latest();
  #counting = new Latest();
  #leafCounting = new Latest();
  #leafCounts = new Map();

  constructor(root, context, names, opened, model) {
    Object.assign(this, { root, context, names, opened, model });
    this.mode = opened.mode;
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
    context.signal.addEventListener("abort", () => this.refreshSoon.cancel());
  }

  get isRead() {
    return this.#readEdits === this.#edits;
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
          h("div", { class: "builder-tools" }, this.modes = segmented("How to edit", [["tree", "Conditions"], ["text", "Text"]], this.mode, (mode) => this.changeMode(mode)), h("span", { class: "grow" }), button("Clear", { kind: "quiet", onClick: () => this.clear() })),
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
    const take = (work) => async () => {
      const where = await this.expression();
      if (where !== undefined) work(where);
    };
    return h(
      "div",
      { class: "count-actions" },
      button("Save", { kind: "primary", name: "save", onClick: take((where) => this.save(where)) }),
      menu("Export", Object.entries(FORMATS).map(([format, { text }]) => ({ text, name: "download", onClick: take((where) => download("/v1/members", { where }, format, this.opened.name ?? "audience")) })), { name: "download" }),
      button("Members", { name: "users", onClick: take((where) => this.showMembers(where)) }),
      button("Profile", { name: "insight", onClick: take((where) => go("insight", { where })) }),
      this.names.spaces.length > 0 && button("Lookalike", { name: "lookalike", onClick: take((seed) => go("lookalike", { seed })) }),
    );
  }

  /// The expression that is on the screen. Undefined, and told, if that is none, or the server does not say so.
  async expression() {
    if (!this.isRead) {
      this.refresh();
      await this.reading.catch(() => {});
    }
    if (this.isRead) return this.text || "TRUE";
    if (!this.context.signal.aborted) toast(`The expression has to be right first. ${this.problem?.message ?? ""}`, { kind: "bad" });
    return undefined;
  }

  showEditor() {
    const changed = () => {
      this.#edits += 1;
      this.refreshSoon();
    };
    if (this.mode === "tree") {
      this.editor = null;
      fill(this.editPlace, treeEditor(this.model, { ...this.names, changed }));
    } else {
      this.editor = editor({ label: "Audience expression", value: this.text, rows: 5, placeholder: "gender = 'f' AND age BETWEEN 25 AND 34", onInput: changed, onRun: () => this.refresh() });
      fill(this.editPlace, card("", this.editor.root));
    }
    this.readsCard.hidden = this.mode === "text";
  }

  /// Shows the other form, which there is only of what is right; else the editor stays as it is.
  async changeMode(mode) {
    const isRight = (await this.expression()) !== undefined;
    if (mode === this.mode) return;
    const isShown = isRight && (mode === "text" || keepsNumbers(this.text));
    if (isRight && !isShown) toast("Numbers of more than 15 digits are edited as text.", { kind: "bad" });
    if (!isShown) return this.modes.choose(this.mode);
    this.mode = mode;
    this.showEditor();
    this.refresh();
  }

  clear() {
    this.#edits += 1;
    this.model = group();
    this.text = "";
    this.showEditor();
    this.refresh();
  }

  /// Brings the other form, the count and the address to what is edited.
  async refresh() {
    this.refreshSoon.cancel();
    this.#counting.cancel();
    fill(this.problemPlace);
    this.problem = null;
    this.countPlace.dataset.waiting = "";
    try {
      this.reading = this.#reading.run((signal) => this.read(signal), this.context.signal);
      if (!(await this.reading)) return;
      const answer = await this.#counting.run((signal) => this.count(signal), this.context.signal);
      if (!answer) return;
      this.showCount(answer);
      fill(this.said, `${integer(answer.count)} users fit`);
      this.showProblem(null);
      this.countLeaves();
    } catch (error) {
      this.showProblem(error);
    }
  }

  async read(signal) {
    const edits = this.#edits;
    const asText = this.editor?.value.trim();
    const sent = this.editor ? asText || undefined : toTree(this.model);
    const nothing = { where: "", tree: true, conditions: [] };
    const translated = sent === undefined ? nothing : await post("/v1/translate", { where: sent }, { signal });
    signal.throwIfAborted();
    this.text = translated.where;
    this.sentText = asText || translated.where;
    this.conditions = translated.conditions;
    if (this.editor) this.model = fromTree(translated.tree, this.names.types);
    this.#readEdits = edits;
    this.showText();
    return true;
  }

  async count(signal, options) {
    const answer = await post("/v1/count", { where: this.sentText || "TRUE" }, { signal, ...options });
    return { ...answer, of: await everybody() };
  }

  /// The data moved on: only the figures are asked for anew. Their own epochs are no news, so they follow the status, every few seconds.
  async countAgain() {
    if (this.#counting.isRunning || this.problem || !this.isRead || document.hidden) return;
    const answer = await this.#counting.run((signal) => this.count(signal, { aside: true }), this.context.signal).catch(() => undefined);
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
    fill(this.countPlace, counted({ count, epoch, elapsed, of, left }));
  }

  showProblem(problem) {
    this.problem = problem;
    delete this.countPlace.dataset.waiting;
    if (problem) this.countPlace.dataset.old = "";
    if (problem && !this.hasCounted) fill(this.countPlace, h("span", { class: "count-value" }, "–"), h("span", { class: "count-unit" }, "What is marked has to be right first"));
    for (const node of this.editor ? [] : leavesOf(this.model)) annotate(node, { problem: null, isIncomplete: toTree(node) === undefined, count: this.#leafCounts.get(JSON.stringify(toTree(node))) });
    if (this.editor) this.editor.markWrong(problem?.span ?? null);
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
          const answer = await post("/v1/count", { where, timeout_ms: LEAF_TIMEOUT_MS }, { signal, aside: true }).catch(() => null);
          if (!answer) return;
          this.#leafCounts.set(key, answer.count);
        }
        annotate(node, { count: this.#leafCounts.get(key) });
      }), this.context.signal);
  }

  async copy() {
    const where = await this.expression();
    if (where === undefined) return;
    await navigator.clipboard.writeText(where);
    toast("Copied");
  }

  showMembers(where) {
    fill(this.membersPlace, card("Members", memberList(where), button("", { kind: "quiet", name: "close", label: "Close the members", onClick: () => fill(this.membersPlace) })));
    this.membersPlace.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  async save(where) {
    const { saved, name: own, version } = this.opened;
    const name = naming({ own: own ?? "", version });
    const description = h("input", { class: "input", value: saved?.description ?? "", autocomplete: "off" });
    const live = h("input", { type: "checkbox", checked: Boolean(saved?.live) });
    const done = await ask({
      title: "Save the audience",
      content: [name.field, field("Description", description), h("label", { class: "check" }, live, h("span", {}, "Live: note who enters and who leaves, as it happens")), name.agreement],
      onSubmit: (signal) => name.keep((wanted, headers) => versioned("PUT", path`/v1/audiences/${wanted}`, { body: { where, description: description.value.trim(), live: live.checked }, headers, signal })),
    });
    if (!done) return;
    const { answer } = done;
    forget("audiences");
    toast(`Saved ${answer.name}`);
    this.opened = { ...this.opened, name: answer.name, saved: answer, version: done.version };
    this.context.note({ name: answer.name });
    this.show();
  }
}

function leavesOf(node) {
  return node.kind === "group" ? node.items.flatMap(leavesOf) : [node];
}
