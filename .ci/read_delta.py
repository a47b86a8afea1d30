#!/usr/bin/env python3
"""Reads a table of facts with readers that know nothing of Beluga, and compares with what was written.

    cargo run --release -p engine-sql --example stage -- FOLDER 100000
    pip install deltalake pyarrow polars
    python3 .ci/read_delta.py FOLDER

FOLDER has the table `purchase` and `expected.json`. Ends with an error if a reader finds something else.
"""

import decimal
import json
import pathlib
import sys


def with_deltalake(table):
    from deltalake import DeltaTable
    import pyarrow

    found = DeltaTable(table)
    read = pyarrow.table(found.to_pyarrow_table())
    assert found.metadata().partition_columns == ["day"], found.metadata()
    assert found.transaction_version("beluga") == 3
    return read.num_rows, sum(read["amount"].to_pylist()), sum(read["_slot"].to_pylist())


def with_polars(table):
    import polars

    read = polars.scan_delta(str(table)).select(
        polars.len(), polars.col("amount").sum(), polars.col("_slot").sum()
    )
    day = polars.scan_delta(str(table)).filter(polars.col("day") == polars.date(2024, 5, 2))
    slots = day.filter(polars.col("_slot") < 1000).select("ts").collect()["ts"]
    assert slots.is_empty() or str(slots.min()).startswith("2024-05-02"), slots
    return read.collect().row(0)


def main():
    folder = pathlib.Path(sys.argv[1])
    expected = json.loads((folder / "expected.json").read_text())
    wanted = (expected["rows"], decimal.Decimal(expected["cents"]) / 100, expected["slots"])
    for reader in (with_deltalake, with_polars):
        found = tuple(reader(folder / "purchase"))
        if found != wanted:
            sys.exit(f"{reader.__name__}: found {found}, wanted {wanted}")
        print(f"{reader.__name__}: {found[0]} rows, as written")


if __name__ == "__main__":
    main()
