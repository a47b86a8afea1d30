// A funnel: a bar for each step, as high as the users who came to it, before a paler one as high as those of the step before.

import { s } from "../core/dom.js";
import { compact, count, integer, percent, seconds } from "../core/format.js";
import { chart, leftAxis, linear, ticks } from "./frame.js";

const HEIGHT = 260;
const BAR_MAX = 120;
/// Least room of a step that has words above its bar.
const ROOM = 40;
/// And of a gap that has a share in it.
const GAP = 60;

/// `steps` are those of the answer, each a `noun` of what is drawn.
export function funnelChart(steps, what = "Funnel", noun = "step") {
  const most = Math.max(1, ...steps.map((step) => step.users));
  const words = steps.map((step, at) => `${at + 1}, ${step.name}: ${integer(step.users)} users${at === 0 || step.of_previous === null ? "" : `, ${percent(step.of_previous)} of the ${noun} before`}${timed(step)}`);
  return chart({
    label: `${what} of ${count(steps.length, noun)}. ${words.join("; ")}`,
    height: HEIGHT,
    draw(width) {
      const [left, right, top, bottom] = [48, width - 4, 40, HEIGHT - 26];
      const values = ticks(0, most, 4, true);
      const y = linear([0, values.at(-1)], [bottom, top]);
      const place = (right - left) / steps.length;
      const bar = Math.min(BAR_MAX, place * 0.5);
      const hasRoom = place >= ROOM;
      const hasGap = place - bar >= GAP;
      return [
        leftAxis(values, y, { left, right, top, format: compact, unit: "users" }),
        steps.map((step, at) => {
          const middle = left + (at + 0.5) * place;
          const before = steps[at - 1]?.users ?? step.users;
          const share = step.of_first === null ? "" : percent(step.of_first);
          const rect = (users, classes) => s("rect", { class: classes, x: middle - bar / 2, y: y(users), width: bar, height: Math.max(users > 0 ? 1 : 0, bottom - y(users)), rx: 2 });
          const text = (dy, content, classes) => s("text", { class: `axis-text ${classes ?? ""}`, x: middle, y: y(step.users) + dy, "text-anchor": "middle" }, content);
          return s(
            "g",
            {},
            s("title", {}, words[at]),
            at > 0 && rect(before, "step-lost"),
            rect(step.users, "histogram-bar"),
            hasRoom && [text(-18, compact(step.users), "step-users"), text(-6, share)],
            at > 0 && hasGap && s("text", { class: "axis-text step-share", x: left + at * place, y: bottom - 6, "text-anchor": "middle" }, `→ ${step.of_previous === null ? "–" : percent(step.of_previous)}`),
            at > 0 && hasGap && step.median_seconds !== undefined && s("text", { class: "axis-text", x: left + at * place, y: bottom - 22, "text-anchor": "middle" }, seconds(step.median_seconds)),
            s("text", { class: "axis-text bar-name", x: middle, y: bottom + 16, "text-anchor": "middle" }, named(step.name, at, place)),
          );
        }),
      ];
    },
  });
}

/// How long users took to a step, where that is told.
const timed = ({ median_seconds: median }) => (median === undefined ? "" : `, half of them within ${seconds(median)}`);

/// What stands below a bar: its number, and as much of its name as there is room for.
function named(name, at, room) {
  const fits = Math.floor(room / 6.6) - 3;
  if (fits < 4) return String(at + 1);
  return `${at + 1} ${name.length > fits ? `${name.slice(0, fits - 1)}…` : name}`;
}
