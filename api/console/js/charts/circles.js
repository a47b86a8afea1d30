// Two or three audiences as circles, as large as they are, placed so that what they share is as large as it is: a Venn diagram in proportion.
//
// Of two the regions are in proportion exactly; of three as nearly as circles can be. Figures stand in the regions that have room for them.

import { newId, s } from "../core/dom.js";
import { compact } from "../core/format.js";
import { chart } from "./frame.js";

const HEIGHT = 340;
const MARGIN = 26;
/// Places that are looked at on each side, to measure regions and to find room in them.
const GRID = 72;
const STEP_LEAST = 0.004;

const bit = (mask, at) => (mask >> at) & 1;

/// The area that two circles share.
function lens(r1, r2, d) {
  if (d >= r1 + r2) return 0;
  const least = Math.min(r1, r2);
  if (d <= Math.abs(r1 - r2)) return Math.PI * least * least;
  const a = 2 * Math.acos((d * d + r1 * r1 - r2 * r2) / (2 * d * r1));
  const b = 2 * Math.acos((d * d + r2 * r2 - r1 * r1) / (2 * d * r2));
  return (r1 * r1 * (a - Math.sin(a)) + r2 * r2 * (b - Math.sin(b))) / 2;
}

/// How far apart two circles share so much.
function distance(r1, r2, shared) {
  if (shared <= 0) return (r1 + r2) * 1.04;
  if (shared >= Math.PI * Math.min(r1, r2) ** 2 * (1 - 1e-9)) return Math.abs(r1 - r2) * 0.7;
  let [low, high] = [Math.abs(r1 - r2), r1 + r2];
  for (let at = 0; at < 50; at += 1) {
    const middle = (low + high) / 2;
    if (lens(r1, r2, middle) > shared) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

function bounds(circles) {
  const of = (sign, axis) => circles.map((circle) => circle[axis] + sign * circle.r);
  return { left: Math.min(...of(-1, "x")), right: Math.max(...of(1, "x")), top: Math.min(...of(-1, "y")), bottom: Math.max(...of(1, "y")) };
}

const maskAt = (circles, x, y) => circles.reduce((mask, circle, at) => mask | ((x - circle.x) ** 2 + (y - circle.y) ** 2 <= circle.r ** 2 ? 1 << at : 0), 0);

/// Calls `look(x, y, area)` for the middle of each field of a grid over the circles.
function over(circles, look) {
  const { left, right, top, bottom } = bounds(circles);
  const [width, height] = [(right - left) / GRID, (bottom - top) / GRID];
  for (let row = 0; row < GRID; row += 1) {
    for (let column = 0; column < GRID; column += 1) look(left + (column + 0.5) * width, top + (row + 0.5) * height, width * height);
  }
}

/// How far the regions are from what they should be.
function error(circles, counts) {
  const areas = counts.map(() => 0);
  over(circles, (x, y, area) => { areas[maskAt(circles, x, y)] += area; });
  return areas.reduce((sum, area, mask) => sum + (mask === 0 ? 0 : (area - counts[mask]) ** 2), 0);
}

/// Circles for the counts of the regions; `counts[mask]` is of those in the audiences of the mask's bits and in no other. Their area is in users.
export function layout(counts) {
  const count = Math.log2(counts.length);
  const sum = (needed) => counts.reduce((all, users, mask) => all + ((mask & needed) === needed && mask > 0 ? users : 0), 0);
  const radii = Array.from({ length: count }, (_, at) => Math.sqrt(Math.max(sum(1 << at), 1e-9) / Math.PI));
  const apart = (a, b) => distance(radii[a], radii[b], sum((1 << a) | (1 << b)));
  const circles = radii.map((r, at) => ({ r, x: at === 1 ? apart(0, 1) : 0, y: 0 }));
  if (count < 3) return circles;
  const [c, b, a] = [apart(0, 1), apart(0, 2), apart(1, 2)];
  const cosine = Math.max(-1, Math.min(1, (b * b + c * c - a * a) / (2 * b * c || 1)));
  Object.assign(circles[2], { x: b * cosine, y: b * Math.sqrt(1 - cosine * cosine) });
  return improved(circles, counts);
}

/// Moves circles by smaller and smaller steps for as long as the regions come nearer to what they should be.
function improved(circles, counts) {
  const size = Math.max(...circles.map((circle) => circle.r));
  let best = error(circles, counts);
  for (let step = size * 0.2; step > size * STEP_LEAST; step /= 2) {
    for (const circle of circles.slice(1)) {
      for (const [dx, dy] of [[step, 0], [-step, 0], [0, step], [0, -step]]) {
        circle.x += dx;
        circle.y += dy;
        const now = error(circles, counts);
        if (now < best) best = now;
        else {
          circle.x -= dx;
          circle.y -= dy;
        }
      }
    }
  }
  return circles;
}

/// For each region the place with most room around, and how much it is.
function places(circles) {
  const found = [];
  over(circles, (x, y) => {
    const mask = maskAt(circles, x, y);
    const room = Math.min(...circles.map((circle) => Math.abs(Math.hypot(x - circle.x, y - circle.y) - circle.r)));
    if (mask && room > (found[mask]?.room ?? 0)) found[mask] = { x, y, room };
  });
  return found;
}

/// `counts` as for `layout`; `letters` name the circles. `onRegion(mask)` is called for a region that is clicked, `onHover(mask)` for the one
/// below the pointer, 0 for none. Its `highlight(mask)` shows one.
export function vennChart({ label, counts, letters, onRegion, onHover }) {
  const circles = layout(counts);
  const { left, right, top, bottom } = bounds(circles);
  const rooms = places(circles);
  const middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
  let shown = 0;
  let placed = [];
  const root = chart({
    label,
    height: HEIGHT,
    draw(width) {
      const scale = Math.min((width - 2 * MARGIN) / (right - left), (HEIGHT - 2 * MARGIN) / (bottom - top));
      const x = (value) => width / 2 + (value - middle.x) * scale;
      const y = (value) => HEIGHT / 2 + (value - middle.y) * scale;
      placed = circles.map((circle) => ({ x: x(circle.x), y: y(circle.y), r: circle.r * scale }));
      const outwards = (circle, at) => {
        const [dx, dy] = circles.length === 2 ? [at === 0 ? -1 : 1, 0] : [circle.x - middle.x, circle.y - middle.y];
        const length = Math.hypot(dx, dy) || 1;
        return length === 1 && dx === 0 && dy === 0 ? [0, -1] : [dx / length, dy / length];
      };
      return [
        placed.map(({ r, ...at }, index) => s("circle", { class: `set set-${index}`, cx: at.x, cy: at.y, r })),
        shown > 0 && region(placed, shown, width),
        rooms.map((place, mask) => {
          const text = compact(counts[mask]);
          return place && place.room * scale >= Math.max(8, text.length * 3.1) && s("text", { class: "region-count", x: x(place.x), y: y(place.y) + 4, "text-anchor": "middle" }, text);
        }),
        circles.map((circle, at) => {
          // Of nobody there is a circle, and nothing to be seen of it.
          if (placed[at].r < 1) return null;
          const [dx, dy] = outwards(circle, at);
          const [cx, cy] = [placed[at].x + dx * (placed[at].r + 13), placed[at].y + dy * (placed[at].r + 13)];
          return s("text", { class: `set-letter set-text-${at}`, x: cx, y: cy + 5, "text-anchor": "middle" }, letters[at]);
        }),
      ];
    },
  });
  const svg = root.querySelector("svg");
  const under = (event) => {
    const box = svg.getBoundingClientRect();
    return maskAt(placed, event.clientX - box.left, event.clientY - box.top);
  };
  svg.addEventListener("pointermove", (event) => onHover(under(event)));
  svg.addEventListener("pointerleave", () => onHover(0));
  svg.addEventListener("click", (event) => under(event) && onRegion(under(event)));
  root.highlight = (mask) => {
    if (mask === shown) return;
    shown = mask;
    svg.style.setProperty("cursor", mask ? "pointer" : "default");
    root.repaint();
  };
  return root;
}

/// A region in one colour: what is in all of its circles, without the others.
function region(circles, mask, width) {
  const inside = circles.filter((_, at) => bit(mask, at));
  const clips = inside.map((circle) => [newId("clip"), circle]);
  const maskId = newId("mask");
  const all = { x: 0, y: 0, width, height: HEIGHT };
  const cut = clips.reduce((shape, [id]) => s("g", { "clip-path": `url(#${id})` }, shape), s("rect", { ...all, fill: "white" }));
  const disc = ({ x, y, r }, attributes) => s("circle", { cx: x, cy: y, r, ...attributes });
  return [
    s("defs", {}, clips.map(([id, circle]) => s("clipPath", { id }, disc(circle))), s("mask", { id: maskId, maskUnits: "userSpaceOnUse", ...all }, cut, circles.filter((_, at) => !bit(mask, at)).map((circle) => disc(circle, { fill: "black" })))),
    s("rect", { class: "region-shown", ...all, mask: `url(#${maskId})` }),
  ];
}
