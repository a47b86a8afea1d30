// The profile of an audience: values of tags with shares and index, numbers as histograms, what stands out first.

import { Latest, isAbort, post } from "../core/api.js";
import { tagFields } from "../core/catalog.js";
import { fill, h } from "../core/dom.js";
import { compact, date, decimal, integer, microseconds, percent } from "../core/format.js";
import { indexChip, profileBars } from "../charts/profile.js";
import { histogram } from "../charts/histogram.js";
import { typeMark } from "../builder/condition.js";
import { audienceField } from "../components/audience_field.js";
import { combobox, filtered } from "../components/combobox.js";
import { card, figure } from "../components/page.js";
import { empty, failed, loading } from "../components/state.js";

const TAGS_AT_FIRST = 8;
const STANDING_OUT = 10;
/// A value that fewer users have says nothing of an audience.
const USERS_LEAST = 20;

export async function mountProfile(root, params, context) {
  const asked = { where: params.get("where") ?? "", against: params.get("against") ?? "", by: (params.get("by") ?? "").split(",").filter(Boolean) };
  const latest = new Latest();
  const result = h("div", { class: "stack" }, loading(8));
  const fields = await tagFields().catch((error) => error);
  if (fields instanceof Error) return isAbort(fields) || fill(root, failed(fields));
  if (fields.length === 0) return fill(root, empty("No tags yet", "A profile needs tags: declare some in the catalog, and send users."));
  if (asked.by.length === 0) asked.by = fields.slice(0, TAGS_AT_FIRST).map((field) => field.name);
  const where = audienceField({ label: "Audience", value: asked.where, onChange: (text) => { asked.where = text; run(); } });
  const against = audienceField({ label: "Against", value: asked.against, onChange: (text) => { asked.against = text; run(); } });
  const tags = combobox({ label: "Tags", placeholder: "Choose tags", multiple: true, values: asked.by, options: (query) => filtered(fields.map((field) => ({ value: field.name, icon: typeMark(field) })), query), onChange: (by) => { asked.by = by; run(); } });
  fill(root, h("section", { class: "card query" }, where, against, h("div", { class: "field query-wide" }, h("span", { class: "field-label" }, "Tags"), tags)), result);

  const run = async () => {
    const isAll = asked.by.join() === fields.slice(0, TAGS_AT_FIRST).map((field) => field.name).join();
    context.note({ where: asked.where, against: asked.against, by: isAll ? null : asked.by.join(",") });
    where.showProblem(null);
    against.showProblem(null);
    // What is asked for already is of what was chosen before.
    latest.cancel();
    if (asked.by.length === 0) return fill(result, empty("Choose a tag", "A profile is over the values of tags."));
    result.setAttribute("aria-busy", "true");
    try {
      const body = { where: asked.where || "TRUE", by: asked.by, values: 100 };
      if (asked.against) body.against = asked.against;
      const answer = await latest.run((signal) => post("/v1/profile", body, { signal }), context.signal);
      if (answer) fill(result, shown(answer, fields));
    } catch (error) {
      const place = error.pointer === "/against" ? against : where;
      if (error.pointer === "/against" || error.pointer === "/where") {
        place.showProblem(error);
        fill(result, empty("Nothing to show", "The expression has to be right first."));
      } else fill(result, failed(error, run));
    } finally {
      if (!latest.isRunning) result.removeAttribute("aria-busy");
    }
  };
  run();
}

function shown(answer, fields) {
  const head = h(
    "section",
    { class: "card" },
    h("div", { class: "card-body figures" }, figure("Audience", integer(answer.count), `${percent(answer.baseline_count ? answer.count / answer.baseline_count : 0)} of the baseline's size`), figure("Baseline", integer(answer.baseline_count)), figure("Epoch", integer(answer.epoch), `exact · ${microseconds(answer.elapsed_us)}`)),
  );
  if (answer.count === 0) return [head, empty("Nobody fits", "The audience has no users, so there is nothing to compare.")];
  const outstanding = standingOut(answer);
  return [
    head,
    outstanding.length > 0 && card("What stands out", [h("p", { class: "muted note" }, `The largest differences in share to the baseline, of values that ${USERS_LEAST} users or more have.`), profileBars("what stands out", outstanding)]),
    h("div", { class: "profile-grid" }, answer.tags.map((tag) => tagCard(tag, answer, fields.find((field) => field.name === tag.tag)))),
  ];
}

function standingOut(answer) {
  const all = answer.tags.flatMap((tag) => (tag.values ?? []).filter((value) => tag.type !== "flag" || value.value === "true").map((value) => ({ ...value, tag: tag.tag })));
  const difference = (value) => Math.abs(value.share - value.baseline_share);
  return all
    .filter((value) => value.count >= USERS_LEAST && value.index !== null && difference(value) >= 0.005)
    .sort((a, b) => difference(b) - difference(a))
    .slice(0, STANDING_OUT);
}

function tagCard(tag, answer, field) {
  const unknown = tag.unknown > 0 && h("p", { class: "muted note" }, `${percent(tag.unknown / answer.count)} without a value; in the baseline ${percent(answer.baseline_count ? tag.baseline_unknown / answer.baseline_count : 0)}.`);
  if (tag.number) return card(tag.tag, [numberFigures(tag, field?.unit === "timestamp"), unknown]);
  if (!tag.values?.length) return card(tag.tag, empty("No values", "No user of the audience has one."));
  const more = tag.more_values > 0 && h("p", { class: "muted note" }, `${integer(tag.more_values)} rarer values are not shown.`);
  return card(tag.tag, [profileBars(tag.tag, tag.values), unknown, more]);
}

function numberFigures(tag, isTime) {
  const { number } = tag;
  if (number.count === 0) return empty("No values", "No user of the audience has one.");
  const show = isTime ? date : (value) => decimal(Number(value));
  const median = number.quantiles.find(({ q }) => q === 0.5)?.value;
  return [
    h("div", { class: "figures figures-small" }, figure("Mean", show(number.mean), number.baseline_mean === null ? null : `baseline ${show(number.baseline_mean)}`), median !== undefined && figure("Median", show(median)), figure("Range", `${isTime ? date(number.min) : compact(Number(number.min))} – ${isTime ? date(number.max) : compact(Number(number.max))}`), number.index !== undefined && number.index !== null && figure("Index of the mean", indexChip(number.index))),
    histogram(tag.tag, number, isTime),
    h("p", { class: "muted note legend" }, h("span", { class: "legend-bar" }), "audience", h("span", { class: "legend-line" }), "baseline"),
  ];
}
