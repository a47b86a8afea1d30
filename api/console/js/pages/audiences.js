// The saved audiences: what they are, how many they have now, whether they are live.

import { call, get, inParallel, isAbort, path, post, put, remove, versioned } from "../core/api.js";
import { audiences, forget } from "../core/catalog.js";
import { every, fill, h } from "../core/dom.js";
import { ago, compact, integer, quoted, time } from "../core/format.js";
import { address, go } from "../core/router.js";
import { button, linkButton, menu } from "../components/button.js";
import { colours } from "../components/code.js";
import { ask, drawer, field } from "../components/dialog.js";
import { FORMATS, download } from "../components/download.js";
import { naming } from "../components/naming.js";
import { pageHead } from "../components/page.js";
import { chip, empty, failed, loading } from "../components/state.js";
import { table } from "../components/table.js";
import { toast } from "../components/toast.js";
import { lineChart } from "../charts/line.js";

const LOOK_MS = 15_000;

export function mount(root, params, context) {
  const sizes = new Map();
  const counted = new Map();
  const content = h("div", { class: "card" }, loading(6));
  const search = h("input", { class: "input search", type: "search", placeholder: "Find by name or expression", "aria-label": "Find an audience", value: params.get("find") ?? "", on: { input: () => show(true) } });
  let all = [];
  let shown = null;
  // Who may not see audiences is not asked for a token again and again.
  let isRefused = false;
  fill(root, pageHead("Saved audiences", "Expressions and uploaded lists. Each name can be used in other audiences, in SQL, and by programs.", button("Upload a list", { onClick: () => upload(load) }), linkButton("Build", address("audience"), { kind: "primary", name: "plus" })), h("div", { class: "toolbar" }, search), content);

  const load = async () => {
    try {
      forget("audiences");
      all = await audiences();
      isRefused = false;
      if (!context.signal.aborted) show();
      // A live one tells its size; others are counted once for each visit of the page, and again when they were changed.
      const uncounted = all.filter(({ name, changed_at: at, live }) => live || counted.get(name) !== at);
      await inParallel(uncounted, 3, async ({ name, changed_at: at, live }) => {
        if (context.signal.aborted) return;
        counted.set(name, at);
        try {
          sizes.set(name, live?.size ?? (await post("/v1/count", { where: `in_audience(${quoted(name)})`, timeout_ms: 5_000 }, { signal: context.signal })).count);
        } catch (error) {
          if (isAbort(error)) return;
          sizes.set(name, null);
        }
        const cell = content.querySelector(`[data-size="${CSS.escape(name)}"]`);
        if (cell) fill(cell, size(name));
      });
    } catch (error) {
      if (isAbort(error)) return;
      isRefused = error.status === 401 || error.status === 403;
      shown = null;
      fill(content, failed(error, load));
    }
  };

  const size = (name) => (sizes.has(name) ? (sizes.get(name) === null ? h("span", { class: "muted" }, "–") : integer(sizes.get(name))) : h("span", { class: "muted" }, "…"));

  /// With `isOther` others are looked for; else those that are looked at stay where they are.
  const show = (isOther) => {
    const text = search.value.trim().toLowerCase();
    context.note({ find: text });
    const rows = all.filter(({ name, where, description }) => `${name} ${where ?? ""} ${description}`.toLowerCase().includes(text));
    if (rows.length > 0 && shown && !isOther) return shown.update(rows);
    shown = null;
    if (all.length === 0) return fill(content, empty("No audiences yet", "Build one, or upload a list of user ids.", linkButton("Build an audience", address("audience"), { kind: "primary" })));
    if (rows.length === 0) return fill(content, empty("No audience fits", `Nothing has “${search.value}” in its name, description or expression.`));
    shown = table({
      label: "Saved audiences",
      rows,
      key: (one) => one.name,
      onRow: (one) => go("audience", { name: one.name }),
      columns: [
        { title: "Name", header: true, cell: (one) => one.name },
        { title: "Users", number: true, cell: (one) => h("span", { data: { size: one.name } }, size(one.name)) },
        { title: "Kind", wide: true, cell: (one) => (one.live ? h("span", { class: "chip chip-good" }, "live") : chip(one.uploaded ? "list" : "expression")) },
        { title: "Who", width: "44%", cell: (one) => h("div", { class: "who" }, one.description && h("div", {}, one.description), one.where ? h("code", { class: "who-code" }, colours(one.where)) : h("span", { class: "muted" }, `${integer(one.uploaded.ids)} ids uploaded`)) },
        { title: "Changed", wide: true, cell: (one) => h("span", { class: "muted", title: time(one.changed_at) }, ago(one.changed_at)) },
        { title: "", once: true, cell: (one) => h("div", { class: "menu-end" }, menu("", () => actions(all.find(({ name }) => name === one.name) ?? one), { kind: "quiet", name: "more", label: `Actions for ${one.name}` })) },
      ],
    });
    return fill(content, shown);
  };

  const actions = (one) => [
    { text: "Profile", name: "insight", onClick: () => go("insight", { where: `in_audience(${quoted(one.name)})` }) },
    { text: "Funnel", name: "analysis", onClick: () => go("analysis", { where: `in_audience(${quoted(one.name)})` }) },
    { text: "Lookalike", name: "lookalike", onClick: () => go("lookalike", { seed: `in_audience(${quoted(one.name)})` }) },
    ...(one.live ? [{ text: "Size over time", name: "live", onClick: () => history(one.name) }, { text: "Movement", name: "insight", onClick: () => go("insight", { view: "movement", of: one.name }) }] : []),
    ...(one.where ? [{ text: one.live ? "Stop keeping it live" : "Keep it live", name: "live", onClick: () => keep(one, load) }] : []),
    { text: "Export CSV", name: "download", onClick: () => download("/v1/members", { where: `in_audience(${quoted(one.name)})` }, "csv", one.name) },
    { text: `Export ${FORMATS.parquet.text}`, name: "download", onClick: () => download("/v1/members", { where: `in_audience(${quoted(one.name)})` }, "parquet", one.name) },
    { text: "Delete", name: "trash", kind: "danger", onClick: () => drop(one.name, load) },
  ];

  load();
  every(LOOK_MS, context.signal, () => {
    if (!isRefused) load();
  });
}

/// Changes nothing but whether it is live: the rest is read first, since what is in the list may be old.
async function keep({ name, live }, done) {
  const at = path`/v1/audiences/${name}`;
  try {
    const { answer: now, version } = await versioned("GET", at);
    await put(at, { where: now.where, description: now.description, live: !live }, { headers: { "if-match": version } });
    toast(live ? `${name} is not live any more` : `${name} is live`);
  } catch (error) {
    toast(error.message, { kind: "bad" });
  }
  done();
}

async function drop(name, done) {
  const gone = await ask({ title: `Delete ${name}?`, text: "Its definition goes, or its list. Users and their tags stay.", submit: "Delete", kind: "danger", onSubmit: async () => { await remove(path`/v1/audiences/${name}`); return true; } });
  if (!gone) return;
  toast(`Deleted ${name}`);
  done();
}

async function history(name) {
  const content = h("div", {}, loading(5));
  drawer(`${name} over time`, content);
  try {
    const { points } = await get(path`/v1/audiences/${name}/sizes`);
    if (points.length === 0) return fill(content, empty("Nothing yet", "Its size is noted by the minute from when it became live."));
    const all = points.map((point) => [Date.parse(point.at), point.size]);
    const clock = (at) => new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    const sum = (key) => points.reduce((total, point) => total + point[key], 0);
    fill(content, lineChart({ label: `Size of ${name} over time, now ${integer(points.at(-1).size)}`, points: () => all, format: { x: clock, y: compact }, unit: { x: "time", y: "users" }, area: true }), h("dl", { class: "facts" }, h("dt", {}, "Now"), h("dd", {}, integer(points.at(-1).size)), h("dt", {}, "Entered"), h("dd", {}, integer(sum("entered"))), h("dt", {}, "Left"), h("dd", {}, integer(sum("left")))));
  } catch (error) {
    fill(content, failed(error));
  }
}

async function upload(done) {
  const name = naming();
  const file = h("input", { class: "input input-file", type: "file", required: true, accept: ".csv,.txt,.ndjson,.jsonl" });
  const types = { csv: "text/csv", ndjson: "application/x-ndjson", jsonl: "application/x-ndjson" };
  const answer = await ask({
    title: "Upload a list",
    text: "User ids, one a line; or CSV with a column user_id; or NDJSON.",
    content: [name.field, field("File", file), name.agreement],
    submit: "Upload",
    onSubmit: (signal) => {
      const [chosen] = file.files;
      const type = types[chosen.name.split(".").at(-1).toLowerCase()] ?? "text/plain";
      return name.keep((wanted, headers) => call("PUT", path`/v1/audiences/${wanted}`, { body: chosen, headers: { ...headers, "content-type": type }, signal }));
    },
  });
  if (!answer) return;
  toast(`${answer.name}: ${integer(answer.known)} of ${integer(answer.ids)} ids are known users${answer.rejected ? `, ${integer(answer.rejected)} lines refused` : ""}`);
  done();
}
