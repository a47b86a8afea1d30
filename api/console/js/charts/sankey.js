// A Sankey diagram: places in columns by how far they are from the chosen event, as high as their users, and bands between them as wide as those
// who went from one to the other.

import { s } from "../core/dom.js";
import { compact, count, integer, percent, seconds, shorter } from "../core/format.js";
import { chart } from "./frame.js";

/// Room of all users of the first column, and between two places: a line of text.
const FLOW = 290;
const GAP = 20;
const TOP = 34;
const BOTTOM = 10;
const NODE = 12;
/// How far those who stopped are drawn.
const STUB = 14;
/// As many have a colour of their own.
const COLOURS = 6;

/// `places` are those of an answer with a `label`, `links` those of it; `backwards`: they lead to the chosen event, which stands at the right.
/// `chosen` is `{ place }` or `{ link }`, an index, or null; `onChoose` gets another. Arrows move from place to place, and Tab leaves the diagram.
/// Its `choose` shows another as chosen.
export function sankeyChart({ label, places, links, backwards, chosen, onChoose }) {
  const depth = Math.max(...places.map((place) => place.depth));
  const columns = Array.from({ length: depth + 1 }, (_, at) => places.map((place, index) => ({ ...place, index })).filter((place) => place.depth === at));
  const most = Math.max(1, ...columns.map((column) => column.reduce((sum, place) => sum + place.users, 0)));
  const y = (users) => (users / most) * FLOW;
  const colours = coloursOf(places);
  const laid = lay(columns, links, backwards, y);
  const height = Math.max(...[...laid.values()].map((place) => place.y + y(place.users))) + GAP + BOTTOM;
  const words = (place) => `${placeWords(place, backwards)}: ${count(place.users, "user")}${place.stopped > 0 ? `, ${integer(place.stopped)} ${stoppedWords(backwards)}` : ""}`;
  const linkWords = (link) => `${places[link.from].label} → ${places[link.to].label}: ${count(link.users, "user")}, ${percent(link.share)}, ${seconds(link.median_seconds)} in the middle`;
  // The one place that Tab comes to.
  let current = chosen?.place ?? 0;
  let marks = { place: [], link: [] };

  const mark = () => {
    for (const kind of ["place", "link"]) marks[kind].forEach((element, at) => element.setAttribute("aria-pressed", String(chosen?.[kind] === at)));
    marks.place.forEach((element, at) => element.setAttribute("tabindex", at === current ? "0" : "-1"));
    const touches = (link, at) => chosen && (chosen.link === at || links[at].from === chosen.place || links[at].to === chosen.place);
    marks.link.forEach((element, at) => element.classList.toggle("flow-shown", Boolean(touches(links[at], at))));
    root.classList.toggle("flow-chosen", Boolean(chosen));
  };
  const choose = (next) => {
    onChoose(next);
    root.choose(next);
  };
  const press = (what) => ({
    click: () => choose(what),
    keydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(what);
    },
  });
  const onKey = (event) => {
    const at = marks.place.indexOf(event.target.closest(".flow-place"));
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (at < 0 || !step) return;
    event.preventDefault();
    const here = laid.get(at);
    const column = here.depth + (backwards ? -step[0] : step[0]);
    const others = columns[column]?.map((place) => laid.get(place.index)).sort((a, b) => a.y - b.y) ?? [];
    const next = step[0] === 0 ? others[others.indexOf(here) + step[1]] : others.reduce((best, other) => (!best || Math.abs(other.y - here.y) < Math.abs(best.y - here.y) ? other : best), null);
    if (!next) return;
    current = next.index;
    mark();
    marks.place[current].focus();
  };

  const root = chart({
    label,
    height,
    role: "group",
    draw(width) {
      // Words stand at the right of their place, also of the last one.
      const room = (width - (backwards ? STUB : 0)) / (depth + 0.85);
      const isLast = (place) => place.depth === (backwards ? 0 : depth);
      const x = (at) => (backwards ? STUB + (depth - at) * room : at * room);
      marks = { place: [], link: [] };
      const bands = links.map((link, at) => {
        const { from, to } = laid.bands[at];
        const [left, right] = [x(places[link.from].depth) + NODE, x(places[link.to].depth)];
        const middle = (left + right) / 2;
        const element = s(
          "path",
          { class: `flow flow-${colours.get(places[link.from].name)}`, d: `M${left} ${from}C${middle} ${from} ${middle} ${to} ${right} ${to}`, "stroke-width": Math.max(1, y(link.users)), role: "button", "aria-label": linkWords(link), tabindex: "-1", on: press({ link: at }) },
          s("title", {}, linkWords(link)),
        );
        marks.link[at] = element;
        return element;
      });
      const nodes = [...laid.values()].map((place) => {
        const left = x(place.depth);
        const tall = Math.max(1.5, y(place.users));
        const lost = y(place.stopped);
        const end = left + NODE;
        const stub = place.stopped > 0 && s("rect", { class: "flow-stopped", x: backwards ? left - STUB : end, y: place.y + tall - lost, width: STUB, height: Math.max(1, lost) });
        const users = compact(place.users);
        const letters = Math.floor(((isLast(place) ? room * 0.85 : room) - NODE - 18 - users.length * 7) / 6.7);
        const text = s("text", { class: "flow-name", x: end + 6, y: place.y + Math.max(4, Math.min(tall / 2 + 4, 16)) }, s("tspan", {}, shorter(place.label, Math.max(5, letters))), s("tspan", { class: "flow-users", dx: 5 }, users));
        const element = s(
          "g",
          { class: "flow-place", role: "button", "aria-label": words(place), on: press({ place: place.index }) },
          s("title", {}, words(place)),
          stub,
          s("rect", { class: `flow-node flow-${colours.get(place.name)}`, x: left, y: place.y, width: NODE, height: tall, rx: 1.5 }),
          // Large enough to be hit, however few they are.
          s("rect", { class: "flow-hit", x: left - 3, y: place.y - 4, width: NODE + 6, height: tall + 8 }),
          text,
        );
        marks.place[place.index] = element;
        return element;
      });
      mark();
      return [
        columns.map((_, at) => s("text", { class: "axis-text axis-unit", x: x(at), y: 12 }, columnName(at, backwards))),
        bands,
        nodes,
      ];
    },
  });
  root.addEventListener("keydown", onKey);
  root.choose = (next) => {
    chosen = next;
    current = next?.place ?? current;
    mark();
  };
  return root;
}

/// How far a column is from the chosen event.
export const columnName = (depth, backwards) => (depth === 0 ? "Chosen" : `${count(depth, "step")} ${backwards ? "before" : "later"}`);

/// A place, as people say it.
export const placeWords = (place, backwards) => (place.depth === 0 ? place.label : `${place.label}, ${columnName(place.depth, backwards)}`);

export const stoppedWords = (backwards) => (backwards ? "had nothing before" : "stopped there");

/// The names that most users came to have colours; what is put together, and the rest, is grey.
function coloursOf(places) {
  const users = new Map();
  for (const { name, users: came } of places) users.set(name, (users.get(name) ?? 0) + came);
  const named = [...users].sort(([, a], [, b]) => b - a).map(([name]) => name).filter((name) => !places.some((place) => place.name === name && place.others !== undefined));
  return new Map([...users.keys()].map((name) => [name, named.indexOf(name) >= 0 && named.indexOf(name) < COLOURS ? named.indexOf(name) : "rest"]));
}

/// Where places and the ends of bands stand: a map by the index of a place, with the `bands` by that of a link. In each column stands first what
/// comes from above, so that fewer bands cross.
function lay(columns, links, backwards, y) {
  const laid = new Map();
  const [near, far] = backwards ? ["to", "from"] : ["from", "to"];
  for (const column of columns) {
    const sourceOf = ({ index }) => {
      const coming = links.filter((link) => link[far] === index && laid.has(link[near]));
      const users = coming.reduce((sum, link) => sum + link.users, 0);
      return users ? coming.reduce((sum, link) => sum + link.users * (laid.get(link[near]).y + y(laid.get(link[near]).users) / 2), 0) / users : Infinity;
    };
    const source = new Map(column.map((place) => [place, sourceOf(place)]));
    let top = TOP;
    for (const place of [...column].sort((a, b) => (source.get(a) - source.get(b)) || b.users - a.users)) {
      laid.set(place.index, { ...place, y: top });
      top += Math.max(1.5, y(place.users)) + GAP;
    }
  }
  const bands = links.map(() => ({}));
  for (const [end, other] of [["from", "to"], ["to", "from"]]) {
    for (const place of laid.values()) {
      let top = place.y;
      const ends = links.map((link, at) => ({ link, at })).filter(({ link }) => link[end] === place.index);
      for (const { link, at } of ends.sort((a, b) => laid.get(a.link[other]).y - laid.get(b.link[other]).y)) {
        bands[at][end] = top + y(link.users) / 2;
        top += y(link.users);
      }
    }
  }
  laid.bands = bands;
  return laid;
}
