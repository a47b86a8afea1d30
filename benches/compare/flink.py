"""Counts events by key and minute with Apache Flink, from one NDJSON file, on a local cluster in this process.

    pip install apache-flink        # needs Java 11 or 17
    python3 benches/compare/flink.py EVENTS.ndjson [--key user_id|category] [--checkpoint SECONDS] [--parallelism N]

What one would run who knows Flink: SQL over its own file source, a tumbling window of event time (its two-phase aggregation), only the
columns that are needed, state on the heap, objects reused, one slot a core. With --checkpoint state is kept exactly once every
so many seconds, without it never.

The job runs twice in the same virtual machine. The first run adds up what the windows come to, so that the answer can be
checked, and warms the compiler; the second has a sink that takes no time, and its time counts. Starting Python, the virtual machine and
the first cluster are in neither figure. Prints one line of JSON: `seconds` from submitting the job to its end,
`job_seconds` without starting its cluster, `cpu_seconds` of processor time meanwhile, `events` counted, `windows` (one a key
and minute).
"""

import argparse
import json
import os
import sys
import tempfile

# A window closes this long behind the newest time seen. The two readers of a file stand at different places of it, and what comes
# behind the watermark is not counted: the caller sees that in `events`.
LATENESS_SECONDS = 5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--key", default="user_id", choices=["user_id", "category", "channel"])
    parser.add_argument("--checkpoint", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--parallelism", type=int, default=os.cpu_count())
    return parser.parse_args()


def environment(wanted, folder):
    from pyflink.common import Configuration
    from pyflink.table import EnvironmentSettings, TableEnvironment

    settings = Configuration()
    settings.set_string("parallelism.default", str(wanted.parallelism))
    settings.set_string("taskmanager.numberOfTaskSlots", str(wanted.parallelism))
    settings.set_string("pipeline.object-reuse", "true")
    settings.set_string("taskmanager.memory.managed.size", "1 gb")
    settings.set_string("state.backend.type", "hashmap")
    settings.set_string("table.local-time-zone", "UTC")
    # For the sum over the windows, which only the checked run has.
    settings.set_string("table.exec.mini-batch.enabled", "true")
    settings.set_string("table.exec.mini-batch.allow-latency", "1 s")
    settings.set_string("table.exec.mini-batch.size", "20000")
    if wanted.checkpoint > 0:
        settings.set_string("execution.checkpointing.interval", f"{round(wanted.checkpoint * 1000)} ms")
        settings.set_string("execution.checkpointing.mode", "EXACTLY_ONCE")
        settings.set_string("execution.checkpointing.dir", f"file://{folder}/checkpoints")
    return TableEnvironment.create(EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(settings).build())


def declare(tables, wanted):
    key = "" if wanted.key == "user_id" else f"{wanted.key} STRING,"
    tables.execute_sql(f"""
        CREATE TABLE events (
            user_id STRING, {key} ts BIGINT,
            event_time AS TO_TIMESTAMP_LTZ(ts, 3),
            WATERMARK FOR event_time AS event_time - INTERVAL '{LATENESS_SECONDS}' SECOND
        ) WITH ('connector' = 'filesystem', 'path' = 'file://{os.path.abspath(wanted.file)}', 'format' = 'json')""")
    tables.execute_sql(f"""
        CREATE VIEW counts AS
        SELECT window_start, window_end, {wanted.key}, count(*) AS n
        FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_time), INTERVAL '1' MINUTE))
        GROUP BY window_start, window_end, {wanted.key}""")
    tables.execute_sql(f"""
        CREATE TABLE nowhere (window_start TIMESTAMP(3), window_end TIMESTAMP(3), {wanted.key} STRING, n BIGINT)
        WITH ('connector' = 'blackhole')""")


def total(tables):
    """How many events were counted, in how many windows; the last of the sums is that of all."""
    events = windows = 0
    with tables.execute_sql("SELECT sum(n), count(*) FROM counts").collect() as rows:
        for row in rows:
            events, windows = max(events, row[0]), max(windows, row[1])
    return events, windows


def processor_seconds():
    """Of the virtual machine, by all its threads; as Linux tells it."""
    from pyflink.java_gateway import get_gateway

    process = get_gateway().jvm.java.lang.ProcessHandle.current().pid()
    with open(f"/proc/{process}/stat") as stat:
        # Behind the name, which stands in brackets, user and system time are the 12th and 13th field.
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(tables):
    from time import perf_counter

    begun = perf_counter()
    result = tables.execute_sql("INSERT INTO nowhere SELECT * FROM counts")
    # The cluster is there and the job has just begun.
    spent = processor_seconds()
    job = result.get_job_client().get_job_execution_result()
    runtime_ms = job.result().get_net_runtime()
    return perf_counter() - begun, runtime_ms / 1000, processor_seconds() - spent


def main():
    wanted = arguments()
    with tempfile.TemporaryDirectory() as folder:
        tables = environment(wanted, folder)
        declare(tables, wanted)
        events, windows = total(tables)
        seconds, job_seconds, cpu_seconds = timed(tables)
    print(json.dumps({
        "events": events,
        "windows": windows,
        "seconds": round(seconds, 3),
        "job_seconds": round(job_seconds, 3),
        "cpu_seconds": round(cpu_seconds, 2),
        "events_per_second": round(events / job_seconds) if job_seconds > 0 else None,
    }))


if __name__ == "__main__":
    sys.exit(main())
