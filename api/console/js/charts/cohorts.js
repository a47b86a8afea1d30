// Cohorts by period: a row for each, a cell for each period from its own on, as strong in colour as the share that came back.

import { h } from "../core/dom.js";
import { calendarDay, compact, count, integer, percent, shortDay } from "../core/format.js";

/// The strongest colour, in percent: text on it is still well read, light or dark.
const STRONGEST = 55;

const round = (share) => (share > 0 && share < 0.095 ? `${(share * 100).toFixed(1)} %` : `${Math.round(share * 100)} %`);

/// `cohorts` are those of the answer, `every` the length of a period. `measure` is what cells say: "share" or "users". With `isOpen` the last
/// period goes on. `onCell(cohort, after)` is called for a chosen cell; arrows move from cell to cell, and Tab leaves the grid. Its `say(measure)` has
/// cells say the other.
export function cohortGrid({ label, cohorts, every, measure, isOpen, chosen, onCell }) {
  // Whoever begins with what counts as coming back is back at once: that says nothing.
  const isSelf = cohorts.every(({ users, back }) => back[0] === users);
  // Nor does one that is not over say how strong the colours of others are.
  const isLast = (at, after) => isOpen && at + after === cohorts.length - 1;
  const over = cohorts.flatMap(({ shares }, at) => shares.filter((_, after) => !(isSelf && after === 0) && !isLast(at, after)));
  const most = over.reduce((one, other) => Math.max(one, other), 0);
  const said = (wanted, at, after) => (wanted === "users" ? compact(cohorts[at].back[after]) : round(cohorts[at].shares[after]));
  const cells = [];
  const laters = cohorts.map((_, after) => later(every, after));
  const cell = ({ back, shares }, { begun, of }, at, after) => {
    const share = shares[after];
    if (share === undefined) return h("td", {}, h("span", { class: "cohort-none" }, "–"));
    const words = `${begun}, ${laters[after]}: ${integer(back[after])} of ${of} came back, ${percent(share)}${isLast(at, after) ? `; the ${every} is not over yet` : ""}`;
    const button = h(
      "button",
      { type: "button", tabindex: "-1", title: words, "aria-label": words, "aria-pressed": "false", data: { open: isLast(at, after), self: isSelf && after === 0 }, style: { "--heat": `${most > 0 ? Math.round((Math.min(share, most) / most) * STRONGEST) : 0}%` }, on: { click: () => choose(at, after) } },
      said(measure, at, after),
    );
    cells[at][after] = button;
    return h("td", {}, button);
  };
  let current = null;
  const focusable = (at, after) => {
    if (current) current.tabIndex = -1;
    current = cells[at][after];
    current.tabIndex = 0;
    return current;
  };
  const choose = (at, after) => {
    root.querySelector("[aria-pressed=true]")?.setAttribute("aria-pressed", "false");
    focusable(at, after).setAttribute("aria-pressed", "true");
    onCell(at, after);
  };
  const placeOf = (button) => {
    const at = cells.findIndex((row) => row.includes(button));
    return at < 0 ? null : [at, cells[at].indexOf(button)];
  };
  const onKey = (event) => {
    const place = placeOf(event.target);
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key];
    if (!place || !step) return;
    event.preventDefault();
    let [at, after] = place;
    if (step[1] === Infinity) after = cells[at].length - 1;
    else if (step[1] === -Infinity) after = 0;
    else {
      after += step[1];
      // Cohorts of nobody have no cells.
      do at += step[0];
      while (step[0] !== 0 && cells[at]?.length === 0);
    }
    if (cells[at]?.[after]) focusable(at, after).focus();
  };
  const root = h(
    "div",
    { class: "table-scroll", role: "region", "aria-label": label, tabindex: "-1", on: { keydown: onKey } },
    h(
      "table",
      { class: "heat cohorts" },
      h("caption", { class: "unseen" }, `${label}. Arrow keys move from cell to cell.`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "cohort-name" }, began(every)), h("th", { scope: "col", class: "number" }, "Users"), cohorts.map((_, after) => h("th", { scope: "col", title: laters[after] }, h("span", { "aria-hidden": "true" }, after === 0 ? "same" : `+${after}`), h("span", { class: "unseen" }, laters[after]))))),
      h("tbody", {}, cohorts.map((cohort, at) => {
        cells[at] = [];
        const words = { begun: named(every, cohort.from), of: count(cohort.users, "user") };
        return h("tr", {}, h("th", { scope: "row", title: words.begun }, every === "month" ? monthOf(cohort.from) : shortDay(cohort.from)), h("td", { class: "number cohort-users" }, integer(cohort.users)), cohort.back.map((_, after) => cell(cohort, words, at, after)));
      })),
    ),
  );
  const first = cells.findIndex((row) => row.length > 0);
  if (chosen && cells[chosen[0]]?.[chosen[1]]) focusable(chosen[0], chosen[1]).setAttribute("aria-pressed", "true");
  else if (first >= 0) focusable(first, Math.min(1, cells[first].length - 1));
  root.say = (wanted) => cells.forEach((row, at) => row.forEach((button, after) => { button.textContent = said(wanted, at, after); }));
  return root;
}

const began = (every) => ({ day: "Day", week: "Week from", month: "Month" })[every];

const monthNames = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
const monthOf = (day) => monthNames.format(new Date(`${day}T00:00:00Z`));

/// A period, as people say it.
export const named = (every, from) => ({ day: calendarDay(from), week: `week from ${calendarDay(from)}`, month: monthOf(from) })[every];

/// When that was.
export const during = (every, from) => `${{ day: "on", week: "in the", month: "in" }[every]} ${named(every, from)}`;

/// How much later, as people say it.
export const later = (every, after) => (after === 0 ? `in the same ${every}` : `${count(after, every)} later`);
