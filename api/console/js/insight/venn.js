// The regions of two to six audiences: who is in which of them, exactly.

import { Latest, isAbort, post } from "../core/api.js";
import { audiences } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { count, integer, microseconds, quoted } from "../core/format.js";
import { address, go } from "../core/router.js";
import { vennChart } from "../charts/circles.js";
import { LETTERS, regionTable, wordsOf } from "../charts/regions.js";
import { linkButton } from "../components/button.js";
import { combobox, filtered } from "../components/combobox.js";
import { card } from "../components/page.js";
import { empty, failed, loading } from "../components/state.js";

const AT_FIRST = 3;
const MOST = 6;
/// As many circles as can be in proportion.
const CIRCLES_MAX = 3;

export async function mountVenn(root, params, context) {
  const latest = new Latest();
  const result = h("div", { class: "stack" }, loading(6));
  const saved = await audiences().catch((error) => error);
  if (saved instanceof Error) return isAbort(saved) || fill(root, failed(saved));
  if (saved.length < 2) return fill(root, empty("Two audiences are needed", "Save two or more, and see who is in which of them.", linkButton("Build an audience", address("audience"), { kind: "primary" })));
  let chosen = (params.get("of") ?? "").split(",").filter((name) => saved.some((one) => one.name === name));
  if (chosen.length === 0) chosen = saved.slice(0, AT_FIRST).map((one) => one.name);
  let withEmpty = params.has("empty");
  let answer = null;
  const choose = combobox({ label: "Audiences", placeholder: "Choose audiences", multiple: true, values: chosen, options: (query) => filtered(saved.map(({ name, description, where }) => ({ value: name, detail: description || where })), query), onChange: (names) => { chosen = names; run(); } });
  fill(root, h("section", { class: "card query" }, h("div", { class: "field query-wide" }, h("span", { class: "field-label" }, `Audiences, two to ${MOST}`), choose)), result);

  const note = () => context.note({ of: chosen.join(","), empty: withEmpty ? "1" : null });

  const show = () => {
    const names = answer.audiences;
    const regions = answer.regions.map((region) => ({ count: region.count, mask: region.in.reduce((mask, name) => mask | (1 << names.indexOf(name)), 0) }));
    const hidden = regions.filter((region) => region.count === 0).length;
    const open = ({ mask }) => {
      const member = (name) => `in_audience(${quoted(name)})`;
      const of = (wanted) => names.filter((_, at) => ((mask >> at) & 1) === wanted).map(member);
      go("audience", { where: [...of(1), ...of(0).map((text) => `NOT ${text}`)].join(" AND ") });
    };
    const listPlace = h("div", {});
    let list = null;
    const look = (mask) => {
      list.highlight(mask);
      picture?.highlight(mask);
    };
    const showList = () => {
      list = regionTable({ label: "Regions by size", names, regions: withEmpty ? regions : regions.filter((region) => region.count > 0), onRegion: open, onHover: look });
      fill(listPlace, list);
    };
    const total = regions.reduce((sum, region) => sum + region.count, 0);
    const counts = Array.from({ length: 1 << names.length }, (_, mask) => regions.find((region) => region.mask === mask)?.count ?? 0);
    const told = regions.map((region) => `${wordsOf(region, names)}: ${integer(region.count)}`);
    const picture = names.length <= CIRCLES_MAX && total > 0
      ? vennChart({ label: `${names.length} audiences as circles. ${told.join("; ")}`, counts, letters: LETTERS, onRegion: (mask) => open({ mask }), onHover: look })
      : null;
    const key = h("ul", { class: "sets" }, names.map((name, at) => h("li", {}, h("span", { class: `set-key set-dot-${at}`, "aria-hidden": "true" }, LETTERS[at]), h("a", { class: "clip", href: address("audience", { name }) }, name), h("span", { class: "number muted" }, integer(answer.counts[at][at])))));
    const empties = hidden > 0 && h("label", { class: "check" }, h("input", { type: "checkbox", checked: withEmpty, on: { change: (event) => { withEmpty = event.target.checked; note(); showList(); } } }), `Also ${hidden === 1 ? "the one region" : `the ${hidden} regions`} without users`);
    const said = picture ? (names.length === 2 ? "Circles and what they share are in proportion." : "Circles are in proportion, what they share as nearly as circles can be; the figures are exact.") : null;
    showList();
    fill(
      result,
      card(
        "Audiences",
        [
          h("p", { class: "muted note" }, `${count(total, "user")} in one of them or more. Epoch ${integer(answer.epoch)}, exact, ${microseconds(answer.elapsed_us)}.`),
          h("div", { class: picture ? "venn" : "" }, picture, key),
          said && h("p", { class: "muted note" }, said),
        ],
      ),
      total === 0
        ? empty("Nobody is in any of them", "All of these audiences are empty.")
        : h("section", { class: "card" }, h("header", { class: "card-head" }, h("h2", {}, "Regions by size"), h("p", { class: "grow" }, "Users in exactly these; a row opens them in the builder"), empties), listPlace),
    );
  };

  const run = async () => {
    latest.cancel();
    note();
    if (chosen.length < 2) return fill(result, empty("Choose another", "Regions are of two audiences or more."));
    if (chosen.length > MOST) return fill(result, empty("Too many at once", `Regions are told of ${MOST} audiences at most: take ${chosen.length - MOST === 1 ? "one" : chosen.length - MOST} away. How much more of them share is told pair by pair.`, linkButton("Overlap", address("insight", { view: "overlap", of: chosen.join(",") }))));
    result.setAttribute("aria-busy", "true");
    try {
      const named = Object.fromEntries(chosen.map((name) => [name, `in_audience(${quoted(name)})`]));
      const got = await latest.run((signal) => post("/v1/overlap", { audiences: named, regions: true }, { signal }), context.signal);
      if (!got) return;
      answer = got;
      show();
    } catch (error) {
      fill(result, failed(error, run));
    } finally {
      if (!latest.isRunning) result.removeAttribute("aria-busy");
    }
  };
  run();
}
