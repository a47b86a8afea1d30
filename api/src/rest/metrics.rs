//! What is counted, and `GET /metrics` in the Prometheus text format.
//!
//! Each server has a recorder of its own, so that several in one process (as in tests) do not mix. Routes are
//! labelled by their pattern, never by the path asked for: the number of series is bounded.

use crate::error::{Failure, Kind};
use crate::queries::{Asks, Door, Progress};
use crate::rest::limits;
use crate::rest::v1::sinks::lag_seconds;
use crate::state::{AppState, Phase, lock};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::ids::Epoch;
use engine::store::Snapshot;
use ingest::enrich::LookupReport;
use ingest::pipeline::{Pipeline, SourceState};
use ingest::sink::{SinkState, Sinks};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Bounds of latency buckets in seconds, from 100 µs to a long export.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// One server's metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    started: Instant,
    /// The oldest write that was not visible when last looked at: the epoch then, and when it was accepted.
    invisible: Mutex<Option<(Epoch, Instant)>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// A recorder with nothing counted yet.
    pub fn new() -> Metrics {
        let recorder =
            PrometheusBuilder::new().set_buckets(&SECONDS).expect("the list of buckets is not empty").build_recorder();
        with_local_recorder(&recorder, describe);
        Metrics { recorder, started: Instant::now(), invisible: Mutex::new(None) }
    }

    /// Counts an answered request.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        with_local_recorder(&self.recorder, || {
            let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
            counter!("beluga_http_requests_total", &labels).increment(1);
            histogram!("beluga_http_request_seconds", &labels[..2]).record(took);
        });
    }

    /// Counts a request that was refused or failed.
    pub fn failure(&self, kind: Kind) {
        with_local_recorder(&self.recorder, || {
            counter!("beluga_failures_total", "kind" => kind.slug()).increment(1);
        });
    }

    /// Counts a question that is over, from any door.
    pub fn question(&self, door: Door, asks: Asks, how: &Progress, took: Duration) {
        with_local_recorder(&self.recorder, || {
            let labels = [("door", door.name()), ("asks", asks.name())];
            histogram!("beluga_query_seconds", &labels).record(took);
            counter!("beluga_queries_total", "door" => door.name(), "asks" => asks.name(), "outcome" => how.name())
                .increment(1);
        });
    }

    /// Notes how long it took from the start until requests are answered.
    pub fn opened(&self) {
        let took = self.started.elapsed();
        with_local_recorder(&self.recorder, || gauge!("beluga_opening_seconds").set(took.as_secs_f64()));
    }

    /// Counts lines of a body of updates.
    pub fn updates(&self, accepted: u64, rejected: u64) {
        with_local_recorder(&self.recorder, || {
            counter!("beluga_updates_accepted_total").increment(accepted);
            counter!("beluga_updates_rejected_total").increment(rejected);
        });
    }

    /// Counts a wait for the log to be on disk.
    pub fn log_synced(&self, took: Duration) {
        with_local_recorder(&self.recorder, || histogram!("beluga_log_sync_seconds").record(took));
    }

    /// Notes that a write was accepted while `epoch` was what queries see.
    pub fn wrote(&self, epoch: Epoch) {
        let mut invisible = lock(&self.invisible);
        match *invisible {
            Some((at, _)) if at == epoch => {}
            _ => *invisible = Some((epoch, Instant::now())),
        }
    }

    /// How long the oldest invisible write has been waiting; zero if all are visible.
    pub(super) fn freshness(&self, now: Epoch) -> Duration {
        match *lock(&self.invisible) {
            Some((epoch, since)) if epoch == now => since.elapsed(),
            _ => Duration::ZERO,
        }
    }
}

fn describe() {
    describe_counter!("beluga_http_requests_total", "Answered HTTP requests");
    describe_histogram!("beluga_http_request_seconds", "Time to the first byte of an answer");
    describe_counter!("beluga_failures_total", "Requests that were refused or failed, by the kind of error");
    describe_histogram!("beluga_query_seconds", "Time of questions and statements from their begin to their last row");
    describe_counter!("beluga_queries_total", "Questions and statements that are over, by how they ended");
    describe_gauge!("beluga_opening_seconds", "How long the start took until requests were answered");
    describe_counter!("beluga_updates_accepted_total", "Lines of updates that were acknowledged");
    describe_counter!("beluga_updates_rejected_total", "Lines of updates that were refused");
    describe_histogram!("beluga_log_sync_seconds", "Wait for the log to be on disk before an acknowledgement");
    describe_gauge!("beluga_ready", "1 when requests are answered");
    describe_gauge!("beluga_uptime_seconds", "Time since the start");
    describe_gauge!("beluga_tls_certificate_expires_seconds", "Time until the server's certificate expires");
    describe_gauge!("beluga_epoch", "Number of the view that queries see");
    describe_gauge!("beluga_freshness_seconds", "Age of the oldest acknowledged write that queries do not see yet");
    describe_gauge!("beluga_slots", "Users ever seen, with those known only from lists");
    describe_gauge!("beluga_tags", "Declared tags");
    describe_gauge!("beluga_audiences", "Defined audiences");
    describe_gauge!("beluga_segments", "Segments that queries read");
    describe_gauge!("beluga_data_bytes", "Size of the files in the data directory");
    describe_gauge!("beluga_build_info", "1, with the version as a label");
    describe_gauge!(
        "beluga_read_only",
        "1 after a write to the disk failed: nothing is taken until the server is started again"
    );
    describe_gauge!("beluga_keeper_failing", "1 while a checkpoint, a merge or what else keeps the data fails");
    describe_gauge!("beluga_shards", "Parts that users are spread over");
    describe_gauge!("beluga_layers_max", "The most segments, on disk and in memory, that a question reads of a shard");
    describe_gauge!("beluga_segment_bytes", "Bytes of the segments that queries read");
    describe_gauge!("beluga_update_memory_bytes", "Memory of updates that no checkpoint has yet");
    describe_gauge!("beluga_log_bytes", "Bytes of the log that a start would read again");
    describe_gauge!("beluga_log_records", "Records of the log that a start would read again");
    describe_gauge!("beluga_disk_free_bytes", "Room on the disk of the data directory");
    describe_gauge!("beluga_disk_bytes", "Size of the disk of the data directory");
    describe_gauge!("beluga_sql_memory_bytes", "Memory that statements hold to sort, join and group with");
    describe_gauge!("beluga_sql_spill_bytes", "Bytes that statements have on disk because they do not fit in memory");
    describe_gauge!("beluga_uploads_running", "Bodies of updates being read");
    describe_gauge!("beluga_exports_running", "Exports being written");
    describe_gauge!("beluga_queries_running", "Queries running");
    describe_gauge!("beluga_queries_waiting", "Queries waiting for their turn");
    describe_gauge!("beluga_cursors_held", "Snapshots held for cursors");
    describe_counter!("beluga_source_records_total", "Records that a source brought");
    describe_counter!("beluga_source_refused_total", "Records of a source that became dead letters");
    describe_gauge!("beluga_source_lag", "Records that wait to be read by a source");
    describe_gauge!("beluga_source_running", "1 when a source reads");
    describe_gauge!("beluga_source_watermark_seconds", "Event time up to which a source has come, since 1970");
    describe_gauge!("beluga_live_audience_size", "Members of a live audience");
    describe_counter!("beluga_live_audience_entered_total", "Users who entered a live audience");
    describe_counter!("beluga_live_audience_left_total", "Users who left a live audience");
    describe_gauge!("beluga_live_audience_look_seconds", "How long the last look at a live audience took");
    describe_counter!("beluga_lookup_records_total", "Records whose key was looked up, by result");
    describe_counter!("beluga_lookup_cached_total", "Records whose look-up was answered from the cache");
    describe_counter!("beluga_lookup_requests_total", "Requests that look-ups sent");
    describe_counter!("beluga_lookup_errors_total", "Requests of look-ups that failed or took too long");
    describe_gauge!("beluga_lookup_in_flight", "Requests of look-ups in flight");
    describe_gauge!("beluga_lookup_waiting", "Keys that wait for an answer");
    describe_gauge!("beluga_lookup_resting", "1 when what is asked failed so often that it is left alone for a while");
    describe_gauge!("beluga_lookup_seconds", "How long requests of a look-up took at most, by quantile");
    describe_counter!("beluga_sink_delivered_total", "Records that a sink delivered");
    describe_counter!("beluga_sink_retries_total", "Attempts of a sink that failed");
    describe_counter!("beluga_sink_dead_letters_total", "Records of a sink that became dead letters");
    describe_counter!("beluga_sink_dropped_total", "Records that a sink passed over while its queue was full");
    describe_gauge!("beluga_sink_queued", "Records that wait in a sink's queue");
    describe_gauge!("beluga_sink_queue_bytes", "Bytes of the files of a sink's queue");
    describe_gauge!("beluga_sink_lag_seconds", "Age of the oldest record in a sink's queue");
    describe_gauge!("beluga_sink_running", "1 when a sink delivers");
    describe_gauge!("beluga_jobs_running", "Jobs that run");
    describe_gauge!("beluga_jobs_queued", "Jobs that wait");
    describe_counter!("beluga_job_rows_total", "Rows that jobs applied or refused");
    describe_counter!("beluga_checkpoints_total", "Checkpoints made");
    describe_counter!("beluga_checkpoint_bytes_total", "Bytes that checkpoints wrote");
    describe_gauge!("beluga_checkpoint_seconds", "Time that the last checkpoint took");
    describe_gauge!("beluga_checkpoint_age_seconds", "Time since the last checkpoint that went well");
    describe_counter!("beluga_compactions_total", "Merges made");
    describe_counter!("beluga_compaction_bytes_total", "Bytes that merges wrote");
    describe_gauge!("beluga_compaction_seconds", "Time that the last merge took");
    metrics_process::Collector::default().describe();
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "operations",
    responses((status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub(super) async fn get(State(state): State<AppState>) -> Result<Response, Failure> {
    let data = state.config.data.clone();
    let disk = limits::blocking(move || Ok(Disk::of(&data))).await?;
    let snapshot = state.whole().ok();
    with_local_recorder(&state.metrics.recorder, || {
        measure(&state, snapshot.as_ref());
        disk.measure();
        measure_store(&state);
        metrics_process::Collector::default().collect();
    });
    let handle = state.metrics.recorder.handle();
    handle.run_upkeep();
    let mut response = handle.render().into_response();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    Ok(response)
}

fn measure(state: &AppState, snapshot: Option<&Snapshot>) {
    gauge!("beluga_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!("beluga_ready").set(if state.phase() == Phase::Ready { 1.0 } else { 0.0 });
    gauge!("beluga_uptime_seconds").set(state.metrics.started.elapsed().as_secs_f64());
    if let Some(seconds) = state.tls().and_then(|tls| tls.seconds_left()) {
        gauge!("beluga_tls_certificate_expires_seconds").set(seconds);
    }
    gauge!("beluga_queries_running").set(state.queries.running() as f64);
    gauge!("beluga_queries_waiting").set(state.queries.waiting() as f64);
    gauge!("beluga_cursors_held").set(state.cursors.len() as f64);
    let in_use = |all: usize, left: &Semaphore| all.saturating_sub(left.available_permits()) as f64;
    gauge!("beluga_uploads_running").set(in_use(state.config.concurrent_uploads, &state.uploads));
    gauge!("beluga_exports_running").set(in_use(state.config.concurrent_uploads, &state.exports));
    if let Some(snapshot) = snapshot {
        let slots: u64 = snapshot.shards().iter().map(|shard| u64::from(shard.slot_count())).sum();
        let segments: usize = snapshot.shards().iter().map(|shard| shard.layers().len()).sum();
        gauge!("beluga_epoch").set(snapshot.epoch().0 as f64);
        gauge!("beluga_freshness_seconds").set(state.metrics.freshness(snapshot.epoch()).as_secs_f64());
        gauge!("beluga_slots").set(slots as f64);
        gauge!("beluga_segments").set(segments as f64);
        gauge!("beluga_tags").set(snapshot.catalog().tags().len() as f64);
        gauge!("beluga_audiences").set(snapshot.audiences().len() as f64);
    }
    if let Ok(store) = state.store() {
        counter!("beluga_updates_suppressed_total").absolute(store.suppressed_count());
        let unclean = store.unclean_since().map_or(0, |since| store.now().saturating_sub(since).max(0));
        gauge!("beluga_erasure_age_seconds").set(unclean as f64 / 1e6);
    }
    for (name, report) in state.pipeline().map(Pipeline::reports).unwrap_or_default() {
        report.lookups.iter().for_each(|lookup| measure_lookup(&name, lookup));
        let labels = [("source", name)];
        counter!("beluga_source_records_total", &labels).absolute(report.records);
        counter!("beluga_source_refused_total", &labels).absolute(report.refused);
        gauge!("beluga_source_lag", &labels).set(report.lag() as f64);
        gauge!("beluga_source_running", &labels).set(if report.state == SourceState::Running { 1.0 } else { 0.0 });
        if let Some(watermark) = report.watermark {
            gauge!("beluga_source_watermark_seconds", &labels).set(watermark as f64 / 1e6);
        }
    }
    for (name, status) in state.live_statuses() {
        let labels = [("audience", name)];
        gauge!("beluga_live_audience_size", &labels).set(status.size as f64);
        counter!("beluga_live_audience_entered_total", &labels).absolute(status.entered);
        counter!("beluga_live_audience_left_total", &labels).absolute(status.left);
        gauge!("beluga_live_audience_look_seconds", &labels).set(status.took.as_secs_f64());
    }
    measure_sinks(state);
    if let Ok(jobs) = state.jobs() {
        let counts = jobs.counts();
        gauge!("beluga_jobs_running").set(counts.running as f64);
        gauge!("beluga_jobs_queued").set(counts.queued as f64);
        counter!("beluga_job_rows_total").absolute(counts.rows);
    }
}

/// What the store and its keeper tell.
fn measure_store(state: &AppState) {
    if let Ok(store) = state.store() {
        let told = store.statistics();
        gauge!("beluga_read_only").set(if store.read_only().is_some() { 1.0 } else { 0.0 });
        gauge!("beluga_shards").set(told.shards as f64);
        gauge!("beluga_layers_max").set(told.layers_max as f64);
        gauge!("beluga_segment_bytes").set(told.segment_bytes as f64);
        gauge!("beluga_update_memory_bytes").set(told.memory_bytes as f64);
        gauge!("beluga_log_bytes").set(told.log_bytes as f64);
        gauge!("beluga_log_records").set(told.log_records as f64);
    }
    if let Ok(sql) = state.sql() {
        gauge!("beluga_sql_memory_bytes").set(sql.memory_bytes() as f64);
        gauge!("beluga_sql_spill_bytes").set(sql.spill_bytes() as f64);
    }
    let Some(keeper) = state.keeper_status() else { return };
    gauge!("beluga_keeper_failing").set(if keeper.last_error.is_some() { 1.0 } else { 0.0 });
    counter!("beluga_checkpoints_total").absolute(keeper.checkpoint_count);
    counter!("beluga_checkpoint_bytes_total").absolute(keeper.checkpoint_bytes);
    gauge!("beluga_checkpoint_seconds").set(keeper.checkpoint_took.as_secs_f64());
    if let Some(at) = keeper.checkpointed_at {
        gauge!("beluga_checkpoint_age_seconds").set(at.elapsed().as_secs_f64());
    }
    counter!("beluga_compactions_total").absolute(keeper.compaction_count);
    counter!("beluga_compaction_bytes_total").absolute(keeper.compaction_bytes);
    gauge!("beluga_compaction_seconds").set(keeper.compaction_took.as_secs_f64());
    counter!("beluga_purges_total").absolute(keeper.purge_count);
}

/// What the data directory takes, and what is left.
struct Disk {
    data_bytes: u64,
    /// Free, and altogether; `None` where the system does not tell.
    room: Option<(u64, u64)>,
}

impl Disk {
    fn of(data: &Path) -> Disk {
        Disk { data_bytes: folder_bytes(data), room: room(data) }
    }

    fn measure(&self) {
        gauge!("beluga_data_bytes").set(self.data_bytes as f64);
        if let Some((free, all)) = self.room {
            gauge!("beluga_disk_free_bytes").set(free as f64);
            gauge!("beluga_disk_bytes").set(all as f64);
        }
    }
}

#[cfg(target_os = "linux")]
fn room(folder: &Path) -> Option<(u64, u64)> {
    let told = rustix::fs::statvfs(folder).ok()?;
    Some((told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize))
}

#[cfg(not(target_os = "linux"))]
fn room(_: &Path) -> Option<(u64, u64)> {
    None
}

fn measure_lookup(source: &str, lookup: &LookupReport) {
    let labels = [("source", source.to_owned()), ("lookup", lookup.name.clone())];
    let [source, name] = labels.clone();
    for (result, count) in [("found", lookup.found), ("missing", lookup.missing), ("failed", lookup.failed)] {
        let labels = [source.clone(), name.clone(), ("result", result.to_owned())];
        counter!("beluga_lookup_records_total", &labels).absolute(count);
    }
    counter!("beluga_lookup_cached_total", &labels).absolute(lookup.cached);
    counter!("beluga_lookup_requests_total", &labels).absolute(lookup.requests);
    counter!("beluga_lookup_errors_total", &labels).absolute(lookup.errors);
    gauge!("beluga_lookup_in_flight", &labels).set(lookup.in_flight as f64);
    gauge!("beluga_lookup_waiting", &labels).set(lookup.waiting as f64);
    gauge!("beluga_lookup_resting", &labels).set(if lookup.is_resting { 1.0 } else { 0.0 });
    for (quantile, micros) in [("0.5", lookup.latency_p50_us), ("0.99", lookup.latency_p99_us)] {
        if let Some(micros) = micros {
            let labels = [source.clone(), name.clone(), ("quantile", quantile.to_owned())];
            gauge!("beluga_lookup_seconds", &labels).set(micros as f64 / 1e6);
        }
    }
}

fn measure_sinks(state: &AppState) {
    let now = state.store().map_or(0, |store| store.now());
    for (name, report) in state.sinks().map(Sinks::reports).unwrap_or_default() {
        let labels = [("sink", name)];
        counter!("beluga_sink_delivered_total", &labels).absolute(report.delivered);
        counter!("beluga_sink_retries_total", &labels).absolute(report.retries);
        counter!("beluga_sink_dead_letters_total", &labels).absolute(report.dead_letters);
        counter!("beluga_sink_dropped_total", &labels).absolute(report.dropped);
        gauge!("beluga_sink_queued", &labels).set(report.queued as f64);
        gauge!("beluga_sink_queue_bytes", &labels).set(report.queue_bytes as f64);
        gauge!("beluga_sink_lag_seconds", &labels).set(lag_seconds(&report, now));
        gauge!("beluga_sink_running", &labels).set(if report.state == SinkState::Running { 1.0 } else { 0.0 });
    }
}

/// Bytes of all files under a folder; what cannot be read counts as nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
