// The live view: what comes in, how fresh questions are, sources, and the sizes of live audiences, told by the server every second.

import { events, isAbort, noteEpoch } from "../core/api.js";
import { fill, h, lasting, pause, renew } from "../core/dom.js";
import { compact, integer, seconds } from "../core/format.js";
import { address } from "../core/router.js";
import { lineChart, spark } from "../charts/line.js";
import { button, linkButton } from "../components/button.js";
import { card, pageHead } from "../components/page.js";
import { chip, empty, failed, loading } from "../components/state.js";
import { table } from "../components/table.js";

export const STATE_KINDS = { starting: "accent", running: "good", paused: "warn", stopped: "warn", retrying: "warn", failed: "bad", finished: null };

/// Seconds that the chart shows.
const SPAN = 120;
const AGAIN_MS = 2_000;

export function mount(root, params, context) {
  const content = h("div", { class: "stack live" }, loading(8));
  fill(root, pageHead("Live", "What comes in, how fresh questions are, and how large live audiences are.", button("Full screen", { name: "full", onClick: () => root.requestFullscreen?.() })), content);
  const told = [];
  let view = null;
  let stream = null;
  let isFollowing = false;

  const onStatus = (name, status) => {
    if (name !== "status") return;
    noteEpoch(status.epoch);
    const last = told.at(-1);
    const span = last ? (Date.parse(status.at) - Date.parse(last.at)) / 1_000 : 0;
    const rate = span > 0 ? Math.max(0, status.events - last.events) / span : null;
    told.push({ ...status, rate });
    while (told.length > SPAN + 1) told.shift();
    if (!view) {
      view = new View(told);
      fill(content, view.root);
    }
    view.show(status);
  };

  /// Follows the server for as long as the page is seen, once: a page in the background holds no connection.
  const follow = async () => {
    if (isFollowing) return;
    isFollowing = true;
    while (!document.hidden && !context.signal.aborted) {
      stream = new AbortController();
      const signal = AbortSignal.any([stream.signal, context.signal]);
      try {
        await events("/v1/status", signal, onStatus);
      } catch (error) {
        if (isAbort(error)) continue;
        if (view) view.away();
        else fill(content, failed(error));
        if (error.status === 401 || error.status === 403) break;
      }
      await pause(AGAIN_MS, signal).catch(() => {});
    }
    isFollowing = false;
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stream?.abort();
    else follow();
  }, { signal: context.signal });
  follow();
}

const whole = (value) => (value < 10_000_000 ? integer(value) : compact(value));

class View {
  constructor(told) {
    this.told = told;
    this.figures = {};
    const big = (key, label) => {
      const value = h("span", { class: "big-value", data: { live: key } });
      const note = h("span", { class: "big-note muted" });
      this.figures[key] = { value, note };
      return h("div", { class: "card big" }, h("span", { class: "figure-label" }, label), value, note);
    };
    this.chart = lineChart({
      label: "Events a second, over the last two minutes",
      points: () => told.filter((one) => one.rate !== null).map((one) => [(Date.parse(one.at) - Date.parse(told.at(-1).at)) / 1_000, one.rate]),
      range: () => [-SPAN, 0],
      xTicks: () => [-120, -90, -60, -30, 0],
      format: { x: (value) => (value === 0 ? "now" : `${Math.round(value)} s`), y: compact },
      unit: { x: "", y: "events a second" },
      fromZero: true,
      area: true,
      height: 200,
    });
    this.sources = h("div", {});
    this.sourceTable = table({
      label: "Sources",
      rows: [],
      key: (one) => one.name,
      columns: [
        { title: "Source", header: true, cell: (one) => one.name },
        { title: "State", cell: (one) => chip(one.state, STATE_KINDS[one.state]) },
        { title: "Records/s", number: true, cell: (one) => compact(Math.round(one.records_per_second)) },
        { title: "Records", wide: true, number: true, cell: (one) => compact(one.records) },
        { title: "Waiting", wide: true, number: true, cell: (one) => compact(one.lag) },
        { title: "Event time behind", number: true, cell: (one) => (one.watermark ? h("span", { title: one.watermark }, seconds(one.behind)) : "–") },
      ],
    });
    this.live = h("div", {});
    this.liveGrid = h("div", { class: "live-grid" });
    this.showAudiences = lasting(this.liveGrid, (one) => one.name, (one) => this.liveAudience(one));
    this.root = h(
      "div",
      { class: "stack" },
      h("div", { class: "bigs" }, big("rate", "Events a second"), big("events", "Events"), big("users", "Users"), big("freshness", "Freshness"), big("queries", "Questions running")),
      card("Events a second", this.chart),
      h("section", { class: "card" }, h("header", { class: "card-head" }, h("h2", { class: "grow" }, "Live audiences"), linkButton("All audiences", address("audiences"), { kind: "quiet" })), this.live),
      h("section", { class: "card" }, h("header", { class: "card-head" }, h("h2", {}, "Sources")), this.sources),
    );
  }

  say(key, value, note) {
    fill(this.figures[key].value, value);
    fill(this.figures[key].note, note);
  }

  show(status) {
    const { told } = this;
    const recent = told.slice(-10).map((one) => one.rate).filter((rate) => rate !== null);
    const mean = recent.length ? recent.reduce((sum, rate) => sum + rate, 0) / recent.length : 0;
    const rate = told.at(-1).rate ?? 0;
    this.root.toggleAttribute("data-away", false);
    this.say("rate", compact(Math.round(rate)), `${compact(Math.round(mean))} over ten seconds`);
    // A tenant is not told of the whole.
    this.say("events", status.events === null ? "–" : whole(status.events), "since the start");
    this.say("users", status.users === null ? "–" : whole(status.users), "ever seen");
    this.say("freshness", seconds(status.freshness_seconds), status.warning ?? `${status.freshness_seconds < 0.001 ? "all visible" : "behind"} · epoch ${integer(status.epoch)}`);
    this.say("queries", integer(status.queries_running), status.queries_waiting ? `${integer(status.queries_waiting)} wait` : "none waits");
    this.chart.repaint(`Events a second over the last two minutes, now ${integer(Math.round(rate))}`);
    this.showLive(status.live);
    this.showSources(status);
  }

  showLive(live) {
    if (live.length === 0) return renew(this.live, empty("No live audiences", "Save an audience as live, and see who enters and who leaves as it happens.", linkButton("Build an audience", address("audience"))));
    if (this.liveGrid.parentNode !== this.live) fill(this.live, this.liveGrid);
    return this.showAudiences(live);
  }

  /// One of them, which stays the same link from second to second.
  liveAudience({ name }) {
    const size = h("span", { class: "live-size", data: { audience: name } });
    let line = spark([], "");
    const moved = h("span", { class: "muted small" });
    const root = h("a", { class: "live-audience", href: address("audience", { name }) }, h("span", { class: "clip live-name" }, name), size, line, moved);
    root.update = (now) => {
      const sizes = this.told.map((one) => one.live.find((other) => other.name === name)?.size).filter((one) => one !== undefined);
      fill(size, integer(now.size));
      const before = line;
      line = spark(sizes, `Size of ${name} lately`);
      before.replaceWith(line);
      fill(moved, `${compact(now.entered)} entered, ${compact(now.left)} left`);
    };
    return root;
  }

  showSources({ sources, at }) {
    if (sources.length === 0) return renew(this.sources, empty("No sources", "Events come over REST, Arrow Flight, or from Kafka topics and files that the catalog declares."));
    if (this.sourceTable.parentNode !== this.sources) fill(this.sources, this.sourceTable);
    const behind = ({ watermark }) => watermark && Math.max(0, (Date.parse(at) - Date.parse(watermark)) / 1_000);
    return this.sourceTable.update(sources.map((one) => ({ ...one, behind: behind(one) })));
  }

  away() {
    this.root.toggleAttribute("data-away", true);
    this.say("freshness", "not connected", "trying again");
  }
}
