// Jobs: loading files beside live updates; how far each is, and its end.

import { Latest, get, path, remove } from "../core/api.js";
import { every, fill, h } from "../core/dom.js";
import { ago, bytes, compact, count, integer, percent, seconds, time } from "../core/format.js";
import { button } from "../components/button.js";
import { ask, drawer } from "../components/dialog.js";
import { pageHead } from "../components/page.js";
import { chip, empty, failed, loading } from "../components/state.js";
import { table } from "../components/table.js";
import { toast } from "../components/toast.js";
import { yaml } from "../components/yaml.js";

const KINDS = { queued: null, running: "accent", done: "good", failed: "bad", cancelled: "warn" };
const LOOK_MS = 1_000;

export function mount(root, params, context) {
  const content = h("div", { class: "card" }, loading(6));
  fill(root, pageHead("Jobs", "Files loaded beside live updates. A job outlives a restart, and each row counts once."), content);
  const looking = new Latest();
  let last = "";
  let pages = 1;
  let jobsTable = null;
  // Who may not see jobs is not asked for a token every second.
  let isRefused = false;
  // Jobs that were told to end, which takes a moment.
  const told = new Set();

  /// The jobs of all pages that were asked for, and where the next one begins.
  const listed = async (signal) => {
    const jobs = [];
    let next = null;
    for (let page = 0; page < pages; page += 1) {
      const answer = await get(`/v1/jobs?limit=50${next ? `&after=${next}` : ""}`, { signal });
      jobs.push(...answer.jobs);
      next = answer.next;
      if (!next) break;
    }
    return { jobs, next };
  };

  /// Shows what there is now, if it is other than what is shown; `anew` in any case.
  const load = async (anew) => {
    if (anew === true) last = "";
    try {
      const answer = await looking.run(listed, context.signal);
      const text = JSON.stringify(answer);
      if (!answer || text === last) return;
      last = text;
      isRefused = false;
      show(answer.jobs, answer.next);
    } catch (error) {
      isRefused = error.status === 401 || error.status === 403;
      if (last === error.message) return;
      last = error.message;
      jobsTable = null;
      fill(content, failed(error, () => load(true)));
    }
  };

  const older = h("div", { class: "pager" }, h("span", { class: "grow" }), button("Show older jobs", { onClick: () => { pages += 1; load(); } }));

  const show = (jobs, next) => {
    if (jobs.length === 0) {
      jobsTable = null;
      return fill(content, empty("No jobs", "Load Parquet, CSV, NDJSON or Arrow files: beluga backfill -f job.yaml --url … sends one here."));
    }
    older.hidden = !next;
    if (jobsTable) return jobsTable.update(jobs);
    jobsTable = table({
      label: "Jobs",
      rows: jobs,
      pageRows: Infinity,
      key: (job) => job.id,
      onRow: (job) => details(job.id),
      columns: [
        { title: "Job", header: true, cell: (job) => job.name },
        { title: "State", cell: (job) => chip(job.state, KINDS[job.state]) },
        { title: "Progress", width: "34%", cell: progress },
        { title: "Refused", wide: true, number: true, cell: ({ progress: { rejected } }) => (rejected ? h("span", { class: "bad-text" }, integer(rejected)) : "0") },
        { title: "Asked for", wide: true, cell: (job) => h("span", { class: "muted", title: time(job.created_at) }, ago(job.created_at)) },
        { title: "", cell: (job) => ending(job, told, load) },
      ],
    });
    return fill(content, jobsTable, older);
  };

  load();
  every(LOOK_MS, context.signal, () => {
    if (!looking.isRunning && !isRefused) load();
  });
}

function progress({ state, progress: at, error }) {
  const share = at.bytes_total > 0 ? at.bytes_done / at.bytes_total : state === "done" ? 1 : 0;
  const words = [
    count(at.rows_done, "row"),
    `${at.files_done} of ${count(at.files_total, "file")}`,
    at.bytes_total > 0 && `${bytes(at.bytes_done)} of ${bytes(at.bytes_total)}`,
    state === "running" && at.rows_per_second && `${compact(at.rows_per_second)} rows/s`,
    state === "running" && at.remaining_seconds !== null && at.remaining_seconds !== undefined && `${seconds(at.remaining_seconds)} left`,
  ].filter(Boolean).join(" · ");
  return [
    h("span", { class: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(share * 100)), "aria-label": `${percent(share)} done`, data: { state } }, h("span", { style: { width: `${share * 100}%` } })),
    h("div", { class: "muted small" }, words),
    error && h("div", { class: "bad-text small" }, error),
  ];
}

function ending(job, told, done) {
  const isOver = !["queued", "running"].includes(job.state);
  const isEnding = !isOver && told.has(job.id);
  return button(isOver ? "Forget" : isEnding ? "Ending …" : "Cancel", {
    disabled: isEnding,
    kind: isOver ? "quiet" : undefined,
    onClick: async () => {
      const agreed = isOver || (await ask({ title: `Cancel ${job.name}?`, text: "What it has loaded stays.", submit: "Cancel the job", kind: "danger", onSubmit: () => true }));
      if (!agreed) return;
      told.add(job.id);
      await remove(path`/v1/jobs/${job.id}`).then(() => isOver && toast("Forgotten")).catch((error) => toast(error.message, { kind: "bad" }));
      done(true);
    },
  });
}

async function details(id) {
  const content = h("div", {}, loading(6));
  drawer("Job", content);
  try {
    const job = await get(path`/v1/jobs/${id}`);
    const fact = (name, value) => value !== null && value !== undefined && value !== "" && [h("dt", {}, name), h("dd", {}, value)];
    fill(
      content,
      h("dl", { class: "facts" }, fact("Name", job.name), fact("State", chip(job.state, KINDS[job.state])), fact("Asked for", time(job.created_at)), fact("Began", job.started_at && time(job.started_at)), fact("Ended", job.finished_at && time(job.finished_at)), fact("Events", integer(job.progress.events)), fact("Tag values", integer(job.progress.values)), fact("Refused", integer(job.progress.rejected)), fact("Error", job.error), fact("Left out", job.unmatched?.join(", "))),
      h("h3", {}, "Asked for"),
      h("pre", { class: "yaml" }, yaml(job.definition)),
      job.refused?.length > 0 && [h("h3", {}, "Rows refused first"), table({ label: "Refused rows", dense: true, rows: job.refused, columns: [{ title: "File", cell: (row) => row.file.split("/").at(-1) }, { title: "Row", number: true, cell: (row) => integer(row.row) }, { title: "Why", header: true, cell: (row) => row.error }] })],
    );
  } catch (error) {
    fill(content, failed(error));
  }
}
