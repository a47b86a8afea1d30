"""Answers SQL for a benchmark, in one process with it: DuckDB or ClickHouse (chdb), events loaded before the clock runs.

    pip install duckdb chdb
    python3 benches/compare/sql.py duckdb|chdb EVENTS.parquet THREADS

Reads a query a line, each giving one number; prints its seconds and the number.
"""

import sys
import time


def duckdb(path, threads):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute(f"CREATE TABLE purchase AS SELECT * FROM '{path}'")
    return lambda query: connection.execute(query).fetchone()[0]


def chdb(path, threads):
    from chdb import session

    opened = session.Session()
    opened.query("CREATE DATABASE b ENGINE = Atomic")
    opened.query(
        "CREATE TABLE b.purchase ENGINE = MergeTree ORDER BY (day, user_id) AS "
        f"SELECT * FROM file('{path}', Parquet)"
    )

    def ask(query):
        query = query.replace("FROM purchase", "FROM b.purchase")
        return int(str(opened.query(f"{query} SETTINGS max_threads = {threads}", "CSV")).strip())

    return ask


def main():
    engine, path, threads = sys.argv[1:]
    ask = {"duckdb": duckdb, "chdb": chdb}[engine](path, int(threads))
    print("ready", flush=True)
    for query in sys.stdin:
        begun = time.perf_counter()
        answer = ask(query.strip())
        print(time.perf_counter() - begun, answer, flush=True)


if __name__ == "__main__":
    main()
