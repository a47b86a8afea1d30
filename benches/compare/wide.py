"""Answers SQL for a benchmark, in one process with it: DuckDB over one wide table of users, and one of their purchases, loaded before
the clock runs.

    pip install duckdb
    python3 benches/compare/wide.py USERS.parquet THREADS [PURCHASES.parquet]

Texts are enumerations, and each value of a set is a boolean column (`interest_yoga`), which is the fastest that the table can be asked.
Reads a query a line; prints its seconds and its rows, sorted, as one line.
"""

import sys
import time

import duckdb


def load(path, threads, purchases=None):
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET TimeZone = 'UTC'")
    columns = connection.execute(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
    chosen = []
    for name, kind, *_ in columns:
        if kind == "VARCHAR[]":
            values = connection.execute(f"SELECT DISTINCT unnest({name}) FROM '{path}' ORDER BY 1").fetchall()
            chosen += [f"list_contains({name}, '{value}') AS {name}_{value}" for (value,) in values]
        elif kind == "VARCHAR" and name != "user_id":
            connection.execute(
                f"CREATE TYPE {name}_type AS ENUM (SELECT DISTINCT {name} FROM '{path}' WHERE {name} IS NOT NULL)"
            )
            chosen.append(f"{name}::{name}_type AS {name}")
        else:
            chosen.append(name)
    connection.execute(f"CREATE TABLE users AS SELECT {', '.join(chosen)} FROM '{path}'")
    if purchases:
        connection.execute(f"CREATE TABLE purchase AS SELECT * FROM '{purchases}'")
    return connection


def text(cell):
    if cell is None:
        return "NULL"
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)


def main():
    path, threads, *purchases = sys.argv[1:]
    connection = load(path, int(threads), *purchases)
    print("ready", flush=True)
    for query in sys.stdin:
        begun = time.perf_counter()
        rows = connection.execute(query.strip()).fetchall()
        seconds = time.perf_counter() - begun
        print(seconds, "; ".join(sorted(" | ".join(map(text, row)) for row in rows)), flush=True)


if __name__ == "__main__":
    main()
