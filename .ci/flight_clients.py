"""Speaks Flight SQL to a server as others do: the ADBC driver for Python, which is what most tools use.

Usage: flight_clients.py BELUGA. Needs adbc-driver-flightsql, adbc-driver-manager and pyarrow.
"""

import datetime
import decimal
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight
import adbc_driver_manager
import pyarrow

CATALOG = {
    "tags": {
        "gender": {"type": "enum"},
        "age": {"type": "number"},
        "spend": {"type": "number", "scale": 2},
        "seen_at": {"type": "number", "unit": "timestamp"},
        "interest": {"type": "set"},
        "is_member": {"type": "flag"},
    },
    "facts": {"purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}}}},
}
PEOPLE = 3_000
# Work for hours: whoever waits for it waits for its end.
ENDLESS = "SELECT count(*) FROM users a, users b, users c, users d WHERE a.age + b.age + c.age + d.age = -1"
SEEN = datetime.datetime(2026, 11, 20, 10, tzinfo=datetime.timezone.utc)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(url, method, body=None):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def wait_until_ready(url, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("the server ended before it was ready")
        try:
            return call(f"{url}/readyz", "GET")
        except OSError:
            time.sleep(0.1)
    sys.exit("the server is not ready after a minute")


def rows(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def refused(work, says, *kinds):
    try:
        work()
    except kinds or flight.Error as error:
        assert says in str(error), (says, str(error))
        return error
    raise AssertionError(f"not refused: {says}")


def ingests(connection, url):
    people = pyarrow.table(
        {
            "user_id": [f"p{number}" for number in range(PEOPLE)],
            "gender": ["fm"[number % 2] for number in range(PEOPLE)],
            "age": [number % 90 for number in range(PEOPLE)],
            "spend": pyarrow.array([decimal.Decimal(number) / 4 for number in range(PEOPLE)], pyarrow.decimal128(12, 2)),
            "seen_at": pyarrow.array([SEEN] * PEOPLE, pyarrow.timestamp("us", "UTC")),
            "interest": [["yoga", "golf"][: number % 3] for number in range(PEOPLE)],
            "is_member": [number % 5 == 0 for number in range(PEOPLE)],
        }
    )
    events = pyarrow.table(
        {
            "user_id": pyarrow.array([f"p{number % 100}" for number in range(10_000)]).dictionary_encode(),
            "ts": pyarrow.array([SEEN] * 10_000, pyarrow.timestamp("ms", "UTC")),
            "category": ["shoes" if number % 4 else None for number in range(10_000)],
            "amount": pyarrow.array([decimal.Decimal("1.25")] * 10_000, pyarrow.decimal128(12, 2)),
        }
    )
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("users", people, mode="append") == PEOPLE
        reader = events.to_reader(max_chunksize=3_000)
        assert cursor.adbc_ingest("purchase", reader, mode="append") == 10_000
        assert cursor.adbc_ingest("purchase", events.slice(0, 10), mode="create_append") == 10
        refused(lambda: cursor.adbc_ingest("purchase", events, mode="create"), "append to it")
        refused(lambda: cursor.adbc_ingest("purchase", events, mode="replace"), "cannot be replaced")
        refused(lambda: cursor.adbc_ingest("orders", events, mode="create"), "declare a fact `orders`")
    call(f"{url}/v1/tags?visible=true", "POST", b"")
    assert rows(connection, "SELECT count(*) FROM users") == [(PEOPLE,)]
    assert rows(connection, "SELECT count(*), sum(amount) FROM purchase") == [(10_010, decimal.Decimal("12512.50"))]


def lists_metadata(connection):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Beluga" and info["vendor_version"], info
    assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "TABLE"], connection.adbc_get_table_types()
    for depth in ["catalogs", "db_schemas", "tables", "all"]:
        catalogs = connection.adbc_get_objects(depth=depth).read_all().to_pylist()
        assert [catalog["catalog_name"] for catalog in catalogs] == ["beluga"], catalogs
        if depth == "catalogs":
            continue
        schemas = {schema["db_schema_name"]: schema for schema in catalogs[0]["catalog_db_schemas"]}
        assert set(schemas) == {"information_schema", "public", "system"}, schemas
        if depth == "db_schemas":
            continue
        tables = {table["table_name"]: table for table in schemas["public"]["db_schema_tables"]}
        assert set(tables) >= {"users", "purchase", "tags", "audiences"}, tables
        if depth == "all":
            columns = [column["column_name"] for column in tables["users"]["table_columns"]]
            assert columns == ["user_id", "age", "gender", "interest", "is_member", "seen_at", "spend"], columns
    some = connection.adbc_get_objects(
        depth="tables", catalog_filter="beluga", db_schema_filter="sys%", table_types_filter=["SYSTEM TABLE"]
    ).read_all()
    names = [table["table_name"] for table in some.to_pylist()[0]["catalog_db_schemas"][0]["db_schema_tables"]]
    assert names == ["jobs", "queries", "segments", "shards", "sources"], names
    schema = connection.adbc_get_table_schema("purchase", db_schema_filter="public")
    assert schema.field("amount").type == pyarrow.decimal128(12, 2), schema
    assert not schema.field("user_id").nullable and schema.field("category").nullable, schema
    assert connection.adbc_current_catalog == "beluga" and connection.adbc_current_db_schema == "public"


def asks(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT user_id, age, spend, seen_at, interest, is_member, NULL AS nothing FROM users WHERE user_id = 'p4'")
        table = cursor.fetch_arrow_table()
        expected = ["string", "int64", "decimal128(19, 2)", "timestamp[us, tz=UTC]", "list", "bool", "null"]
        for field, kind in zip(table.schema, expected):
            assert str(field.type).startswith(kind), table.schema
        assert table.to_pylist() == [
            {
                "user_id": "p4",
                "age": 4,
                "spend": decimal.Decimal("1.00"),
                "seen_at": SEEN,
                "interest": ["yoga"],
                "is_member": False,
                "nothing": None,
            }
        ]
        assert cursor.adbc_execute_schema("SELECT age FROM users").names == ["age"]
        cursor.execute("SELECT a.user_id FROM users a, users b LIMIT 500000")
        assert sum(batch.num_rows for batch in cursor.fetch_record_batch()) == 500_000
        partitions, schema = cursor.adbc_execute_partitions("SELECT count(*) AS users FROM users")
        cursor.adbc_read_partition(partitions[0])
        assert (schema.names, cursor.fetchall()) == (["users"], [(PEOPLE,)])
    error = refused(lambda: rows(connection, "SELECT gendr FROM users"), "did you mean `gender`?")
    assert error.status_code == adbc_driver_manager.AdbcStatusCode.NOT_FOUND, error
    refused(lambda: rows(connection, "DELETE FROM users"), "nothing is changed by SQL")


def prepares(connection):
    sql = "SELECT count(*) FROM users WHERE age >= ? AND gender = ? AND spend < ?"
    for age, gender in [(0, "f"), (50, "m"), (89, "f")]:
        expected = sum(n % 90 >= age and "fm"[n % 2] == gender and n / 4 < 500 for n in range(PEOPLE))
        found = rows(connection, sql, (age, gender, decimal.Decimal("500.00")))
        assert found == [(expected,)], (age, gender, found, expected)
    assert rows(connection, "SELECT count(*) FROM users WHERE array_has(interest, $1)", ("golf",)) == [(PEOPLE // 3,)]
    assert rows(connection, "SELECT count(*) FROM users WHERE gender = $1", (None,)) == [(0,)]
    with connection.cursor() as cursor:
        schema = cursor.adbc_prepare("SELECT user_id FROM users WHERE age > $1 AND seen_at < $2")
        assert [str(field.type) for field in schema] == ["int64", "timestamp[us, tz=UTC]"], schema
    refused(lambda: rows(connection, sql, (1,)), "3 parameters, and 1 values")


def cancels(connection, url):
    with connection.cursor() as cursor:
        cancelled = []
        cursor.execute(ENDLESS)

        def wait():
            try:
                cursor.fetchall()
            except flight.Error as error:
                cancelled.append((time.monotonic(), error))

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)
        begin = time.monotonic()
        cursor.adbc_cancel()
        waiting.join(30)
        assert cancelled and cancelled[0][0] - begin < 10, cancelled
        print(f"ADBC: cancelled after {(cancelled[0][0] - begin) * 1000:.1f} ms")
    deadline = time.monotonic() + 5
    while True:
        queries = call(f"{url}/v1/queries", "GET")["queries"]
        state = next(query["state"] for query in queries if query["sql"] == ENDLESS)
        if state == "cancelled":
            break
        assert time.monotonic() < deadline, state
        time.sleep(0.01)


def connect(uri, **options):
    return flight.connect(uri, db_kwargs=options, autocommit=True)


def main():
    beluga = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        http, port = free_port(), free_port()
        url, uri = f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{port}"
        data = pathlib.Path(folder) / "data"
        addresses = ["--http", f"127.0.0.1:{http}", "--flight", f"127.0.0.1:{port}"]
        server = subprocess.Popen([beluga, "serve", "--data", str(data), *addresses])
        try:
            wait_until_ready(url, server)
            call(f"{url}/v1/catalog", "PUT", CATALOG)
            header = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value
            with connect(uri, username="analyst", password="token") as connection:
                assert rows(connection, "SELECT 1") == [(1,)]
            cookies = adbc_driver_flightsql.DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value
            with connect(uri, **{header: "Bearer token", cookies: "true"}) as connection:
                for step in [ingests, lists_metadata, asks, prepares, cancels]:
                    step(connection, url) if step in (ingests, cancels) else step(connection)
                    print(f"ADBC: {step.__name__}")
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, "the server stops well"


if __name__ == "__main__":
    main()
