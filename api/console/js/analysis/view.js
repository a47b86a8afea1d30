// What the views of Analysis have in common: a form, a question that is asked anew after an edit, and its answer or what is wrong with it.

import { Latest, post } from "../core/api.js";
import { debounced, fill, h } from "../core/dom.js";
import { count, integer, microseconds } from "../core/format.js";
import { figure } from "../components/page.js";
import { empty, failed, loading } from "../components/state.js";

const EDIT_MS = 200;

/// Lengths of time between events, and of the time up to now that events are of.
export const WINDOW_UNITS = ["days", "seconds", "minutes", "hours", "weeks"];
export const WITHIN_UNITS = ["days", "hours", "weeks", "months", "years"];

/// A view has `path`, the call; `fields`, its places for problems by the name in the body; `question(signal)`, which notes the address and gives
/// the body, null while there is no question; `shown()` for an answer, and `invitation()` for none. `body` and `answer` belong together.
export class View {
  #asking = new Latest();

  constructor(root, context) {
    Object.assign(this, { root, context, body: null, answer: null, fields: {} });
    this.result = h("div", { class: "stack" });
    this.runSoon = debounced(() => this.run(), EDIT_MS);
    context.signal.addEventListener("abort", () => this.runSoon.cancel());
  }

  /// Shows the form, and asks.
  open(...form) {
    fill(this.root, h("section", { class: "card analysis-form", "aria-label": "What is asked" }, form), this.result);
    this.run();
  }

  /// A listener that keeps what was chosen as `asked[key]`.
  change(key) {
    return (value) => {
      this.asked[key] = value;
      this.runSoon();
    };
  }

  async run() {
    const { result } = this;
    this.runSoon.cancel();
    result.setAttribute("aria-busy", "true");
    if (!this.answer) fill(result, loading(6));
    for (const field of Object.values(this.fields)) field.showProblem(null);
    try {
      const found = await this.#asking.run(async (signal) => {
        const body = await this.question(signal);
        return { body, answer: body && (await post(this.path, body, { signal })) };
      }, this.context.signal);
      if (!found) return;
      Object.assign(this, found);
      fill(result, this.answer ? this.shown() : this.invitation());
    } catch (error) {
      this.answer = null;
      const field = this.fields[/^\/(\w+)/.exec(error.pointer ?? "")?.[1]];
      field?.showProblem(error);
      fill(result, field ? empty("Nothing to show", "What is marked has to be right first.") : failed(error, () => this.run()));
    } finally {
      if (!this.#asking.isRunning) result.removeAttribute("aria-busy");
    }
  }

  /// The figures of an answer, and what it rests on: `source`, or the events that were looked at.
  figures(figures, source = count(this.answer.events, "event")) {
    const { epoch, elapsed_us: elapsed } = this.answer;
    return h("section", { class: "card" }, h("div", { class: "card-body figures" }, figures, figure("Epoch", integer(epoch), `exact · ${source} · ${microseconds(elapsed)}`)));
  }
}

/// Reads a whole number for the body; what is none is told at its field.
export function wholeNumber(text, field, words) {
  if (/^\d+$/.test(text)) return Number(text);
  throw Object.assign(new Error(words), { pointer: `/${field}` });
}
