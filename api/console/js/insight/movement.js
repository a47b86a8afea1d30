// Movement: who entered and who left a live audience between two moments.

import { Latest, get, isAbort, path } from "../core/api.js";
import { audiences } from "../core/catalog.js";
import { debounced, fill, h } from "../core/dom.js";
import { count, integer, microseconds, shortDay, signed } from "../core/format.js";
import { address } from "../core/router.js";
import { upDownChart } from "../charts/updown.js";
import { button, linkButton, segmented } from "../components/button.js";
import { combobox, filtered } from "../components/combobox.js";
import { card, figure } from "../components/page.js";
import { chip, empty, failed, loading, told } from "../components/state.js";
import { table } from "../components/table.js";
import { showUser } from "../components/user.js";

const DAY_MS = 86_400_000;
const EDIT_MS = 300;
const PAGE = 50;
const SPANS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["between", "Between"]];
const MOVEMENTS = { entered: ["Entered", "no member at the begin, one at the end", "good"], left: ["Left", "a member at the begin, none at the end", "bad"], passed: ["Passed", "entered and left again", null], returned: ["Returned", "left and entered again", "accent"] };

export async function mountMovement(root, params, context) {
  const saved = await audiences().catch((error) => error);
  if (saved instanceof Error) return isAbort(saved) || fill(root, failed(saved));
  const live = saved.filter((one) => one.live).map(({ name, description, where }) => ({ name, detail: description || where }));
  if (live.length === 0) return fill(root, empty("No live audiences", "Who enters and who leaves is noted of live audiences: keep one live, and come back.", linkButton("Saved audiences", address("audiences"))));
  new Movement(root, params, context, live).show();
}

class Movement {
  #asking = new Latest();
  #listing = new Latest();

  constructor(root, params, context, live) {
    Object.assign(this, { root, context, live });
    const read = (key) => params.get(key) ?? "";
    const isBetween = Boolean(read("from"));
    this.asked = {
      of: live.some(({ name }) => name === read("of")) ? read("of") : live[0].name,
      span: isBetween ? "between" : SPANS.some(([known]) => known === read("days")) ? read("days") : "30",
      from: read("from"),
      to: read("to"),
      movement: MOVEMENTS[read("movement")] ? read("movement") : "",
    };
    this.runSoon = debounced(() => this.run(), EDIT_MS);
    context.signal.addEventListener("abort", () => this.runSoon.cancel());
  }

  show() {
    const { asked } = this;
    const choose = combobox({ label: "Live audience", value: asked.of, options: (query) => filtered(this.live.map(({ name, detail }) => ({ value: name, detail })), query), onChange: (name) => { asked.of = name; this.run(); } });
    const moment = (key, label) => {
      const input = h("input", { class: "input", type: "datetime-local", step: "60", value: inputOf(asked[key]), on: { input: () => { asked[key] = input.value ? momentOf(input.value) : ""; this.runSoon(); } } });
      return h("label", { class: "field" }, h("span", { class: "field-label" }, label), input);
    };
    const places = h("div", { class: "moments" });
    this.problem = h("p", { class: "audience-problem", role: "alert", hidden: true });
    const showMoments = () => {
      places.hidden = asked.span !== "between";
      fill(places, asked.span === "between" && [moment("from", "From (UTC)"), moment("to", "To (UTC), now if left out")]);
    };
    const changeSpan = (span) => {
      if (span === "between" && !asked.from) asked.from = new Date(Math.floor((Date.now() - 7 * DAY_MS) / DAY_MS) * DAY_MS).toISOString();
      asked.span = span;
      showMoments();
      this.run();
    };
    showMoments();
    this.result = h("div", { class: "stack" });
    fill(
      this.root,
      h(
        "section",
        { class: "card query" },
        h("div", { class: "field" }, h("span", { class: "field-label" }, "Live audience"), choose),
        h("div", { class: "field" }, h("span", { class: "field-label", "aria-hidden": "true" }, "The last"), segmented("Time", SPANS, asked.span, changeSpan)),
        h("div", { class: "query-wide" }, places, this.problem),
      ),
      this.result,
    );
    this.run();
  }

  /// The time that is asked for; up to now unless an end is said.
  times() {
    const { span, from, to } = this.asked;
    if (span !== "between") return { from: new Date(Date.now() - Number(span) * DAY_MS).toISOString() };
    return to ? { from, to } : { from };
  }

  query(of, parameters) {
    return `${path`/v1/audiences/${of}/movement`}?${new URLSearchParams(parameters)}`;
  }

  note() {
    const { of, span, from, to, movement } = this.asked;
    const isBetween = span === "between";
    this.context.note({ of, days: isBetween || span === "30" ? null : span, from: isBetween ? from : null, to: isBetween ? to : null, movement });
  }

  async run() {
    this.runSoon.cancel();
    this.#asking.cancel();
    this.#listing.cancel();
    this.problem.hidden = true;
    this.note();
    if (!this.answer) fill(this.result, loading(6));
    if (this.asked.span === "between" && !this.asked.from) return fill(this.result, empty("Choose when it begins", "Movement is told between two moments."));
    this.result.setAttribute("aria-busy", "true");
    try {
      const answer = await this.#asking.run((signal) => get(this.query(this.asked.of, { ...this.times(), limit: 0 }), { signal }), this.context.signal);
      if (!answer) return;
      this.answer = answer;
      this.showAnswer();
    } catch (error) {
      this.answer = null;
      const isField = ["from", "to"].includes(error.pointer);
      this.problem.hidden = !isField;
      fill(this.problem, isField && told(error));
      fill(this.result, isField ? empty("Nothing to show", "The time has to be right first.") : failed(error, () => this.run()));
    } finally {
      if (!this.#asking.isRunning) this.result.removeAttribute("aria-busy");
    }
  }

  showAnswer() {
    const { answer } = this;
    const figures = Object.entries(MOVEMENTS).map(([name, [text, note]]) => figure(text, integer(answer[name]), note));
    const days = everyDay(answer);
    const times = answer.days.reduce((sum, day) => ({ entered: sum.entered + day.entered, left: sum.left + day.left }), { entered: 0, left: 0 });
    const most = answer.days.reduce((best, day) => (day.entered + day.left > best.entered + best.left ? day : best), answer.days[0]);
    const words = `${minute(answer.from)} to ${minute(answer.to)}. Epoch ${integer(answer.epoch)}, exact, ${microseconds(answer.elapsed_us)}.`;
    fill(
      this.result,
      h("section", { class: "card" }, h("div", { class: "card-body" }, h("div", { class: "figures" }, figures, figure("In all", signed(answer.entered - answer.left, integer), "members more or fewer")), h("p", { class: "muted note" }, words))),
      answer.days.length === 0
        ? empty("Nobody moved", "No user entered or left in this time.")
        : [
          card("By day", [
            upDownChart(`Entered and left by day, ${days.length} days from ${shortDay(days[0].day)} to ${shortDay(days.at(-1).day)}: ${integer(times.entered)} times entered, ${integer(times.left)} times left; most on ${shortDay(most.day)}, ${integer(most.entered)} entered and ${integer(most.left)} left`, days),
            h("p", { class: "muted note legend" }, h("span", { class: "legend-bar legend-entered" }), "entered", h("span", { class: "legend-bar legend-left" }), "left", h("span", { class: "legend-gap" }), "Who moves several times counts several times here, and once above."),
            h("details", { class: "day-table" }, h("summary", {}, "As a table"), table({
              label: "Entered and left by day",
              dense: true,
              pageRows: 31,
              rows: [...answer.days].reverse(),
              key: (day) => day.day,
              columns: [
                { title: "Day", header: true, cell: (day) => day.day },
                { title: "Entered", number: true, cell: (day) => integer(day.entered) },
                { title: "Left", number: true, cell: (day) => integer(day.left) },
                { title: "In all", number: true, cell: (day) => signed(day.entered - day.left, integer) },
              ],
            })),
          ]),
          this.usersCard(),
        ],
    );
  }

  /// Who they are, a page at a time, of the time that the figures are of.
  usersCard() {
    const { asked, answer } = this;
    const list = h("ul", { class: "member-grid moved" });
    const shown = h("span", { class: "muted grow", role: "status" });
    const more = button("Show more", { onClick: () => load(more.after) });
    const foot = h("div", { class: "pager" }, shown, more);
    const place = h("div", { class: "members" }, loading(3));
    const load = async (after) => {
      const hadFocus = document.activeElement === more;
      more.disabled = true;
      const parameters = { from: answer.from, to: answer.to, limit: PAGE };
      if (asked.movement) parameters.movement = asked.movement;
      if (after) parameters.after = after;
      try {
        const page = await this.#listing.run((signal) => get(this.query(answer.audience, parameters), { signal }), this.context.signal);
        if (!page) return;
        if (!after && page.users.length === 0) return fill(place, empty("Nobody", asked.movement ? "No user moved like this in this time." : "No user moved in this time."));
        if (!after) fill(list);
        if (foot.parentNode !== place) fill(place, list, foot);
        list.append(...page.users.map(({ user_id: id, movement }) => h("li", {}, h("button", { type: "button", class: "member", title: id, on: { click: () => showUser(id) } }, h("span", { class: "mono clip" }, id), chip(MOVEMENTS[movement][0], MOVEMENTS[movement][2])))));
        const of = asked.movement ? answer[asked.movement] : Object.keys(MOVEMENTS).reduce((sum, name) => sum + answer[name], 0);
        fill(shown, `${integer(list.children.length)} of ${count(of, "user")}`);
        more.after = page.next;
        more.hidden = !page.next;
        more.disabled = false;
        if (hadFocus && [document.body, more].includes(document.activeElement)) more.focus();
      } catch (error) {
        fill(place, after && list, failed(error, () => load(after)));
      }
    };
    load();
    const options = [["", "All"], ...Object.entries(MOVEMENTS).map(([name, [text]]) => [name, text])];
    return card("Who they are", place, segmented("Which users", options, asked.movement, (movement) => {
      asked.movement = movement;
      this.note();
      load();
    }));
  }
}

/// A moment of the server, to the minute.
const minute = (moment) => `${moment.slice(0, 10)} ${moment.slice(11, 16)} UTC`;

/// A moment as an input for it has it, and the other way round; both are of UTC.
const inputOf = (moment) => (moment ? moment.replace(/(T\d\d:\d\d).*$/, "$1") : "");
const momentOf = (text) => `${text.length === 16 ? `${text}:00` : text}Z`;

/// All days of the time, also those on which nobody moved.
function everyDay({ from, to, days }) {
  const known = new Map(days.map((day) => [day.day, day]));
  const all = [];
  // The end does not belong to the time.
  const end = Date.parse(to) - 1;
  for (let at = Math.floor(Date.parse(from) / DAY_MS) * DAY_MS; at <= end; at += DAY_MS) {
    const day = new Date(at).toISOString().slice(0, 10);
    all.push(known.get(day) ?? { day, entered: 0, left: 0 });
  }
  return all;
}
