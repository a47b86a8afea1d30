"""Asks DuckDB statements that were answered elsewhere, and compares.

Usage: others.py FOLDER, with users.parquet, purchase.parquet and statements.json ([{"sql", "rows"}]).
"""

import datetime
import decimal
import json
import pathlib
import sys

import duckdb

# Of so many statements at least, in a hundred, both dialects have one meaning: DuckDB names some functions otherwise, and adds up
# beyond 64 bits what wraps around here.
ANSWERED_MIN = 80


def plain(value):
    """A value as text that is the same whatever type holds it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    text = str(value)
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        number = None
    if number is not None and number.is_finite():
        # Averages have other digits behind the point, and large ones before it.
        is_exact = number == number.to_integral_value() and abs(number) < 10**12
        return str(int(number)) if is_exact else f"{float(number):.4g}"
    if text.endswith("Z") and "T" in text:
        try:
            return plain(datetime.datetime.fromisoformat(text[:-1] + "+00:00"))
        except ValueError:
            pass
    return text


def main():
    folder = pathlib.Path(sys.argv[1])
    base = duckdb.connect()
    base.execute("SET TimeZone = 'UTC'")
    for table in ["users", "purchase"]:
        base.execute(f"CREATE TABLE {table} AS SELECT * FROM read_parquet('{folder}/{table}.parquet')")
    asked = json.loads((folder / "statements.json").read_text())
    answered, wrong = 0, []
    errors = {}
    for statement in asked:
        sql = statement["sql"]
        try:
            rows = base.execute(sql).fetchall()
        except duckdb.Error as error:
            errors[str(error).splitlines()[0][:120]] = sql
            continue
        answered += 1
        theirs = sorted([plain(cell) for cell in row] for row in rows)
        ours = sorted([plain(cell) for cell in row] for row in statement["rows"])
        if ours != theirs:
            wrong.append(f"{sql}\n  ours:   {ours[:20]}\n  DuckDB: {theirs[:20]}")
    for text in wrong[:5]:
        print(text)
    if answered * 100 < ANSWERED_MIN * len(asked):
        print(f"only {answered} of {len(asked)} were answered:", json.dumps(errors, indent=1))
        sys.exit(1)
    sys.exit(1 if wrong else 0)


main()
