"""Answers SQL for a benchmark, in one process with it: ClickHouse (chdb) over a table with a bitmap of users for each value of each tag,
made before the clock runs.

    pip install chdb
    python3 benches/compare/bitmaps.py VALUES.parquet THREADS

The file has a row for each user and value: `tag`, `value` and `user_id`, small numbers all. Reads a query a line, each giving one number,
over `tags(tag, value, users)`; prints its seconds and the number.
"""

import sys
import time

from chdb import session


def main():
    path, threads = sys.argv[1:]
    opened = session.Session()
    opened.query("CREATE DATABASE b ENGINE = Atomic")
    opened.query(
        "CREATE TABLE b.tags (tag UInt8, value UInt16, users AggregateFunction(groupBitmap, UInt32)) "
        "ENGINE = MergeTree ORDER BY (tag, value)"
    )
    opened.query(
        "INSERT INTO b.tags SELECT tag, value, groupBitmapState(user_id) AS users "
        f"FROM file('{path}', Parquet, 'tag UInt8, value UInt16, user_id UInt32') GROUP BY tag, value"
    )
    opened.query("OPTIMIZE TABLE b.tags FINAL")
    print("ready", flush=True)
    for query in sys.stdin:
        begun = time.perf_counter()
        query = query.strip().replace("FROM tags", "FROM b.tags")
        answer = int(str(opened.query(f"{query} SETTINGS max_threads = {threads}", "CSV")).strip())
        print(time.perf_counter() - begun, answer, flush=True)


if __name__ == "__main__":
    main()
