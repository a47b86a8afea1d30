#!/usr/bin/env python3
"""Sends events to a server, stops it, and reads its table of facts with readers that know nothing of Beluga.

    pip install deltalake pyarrow polars
    python3 .ci/read_facts.py target/release/beluga

Some events come twice and some are taken back: what the readers find must agree with a count of our own and with the
server's answers. Ends with an error if it does not.
"""

import collections
import datetime
import decimal
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

CATALOG = {
    "facts": {
        "purchase": {
            "columns": {"category": "string", "amount": {"decimal": [12, 2]}, "gift": "boolean"},
            "activity": {"dimensions": ["category"], "measures": ["amount"]},
            "deduplicate": "30 days",
        }
    }
}
EVENTS = 20_000
CATEGORIES = ["shoes", "hats", None]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(url, method, body):
    """A list is sent as NDJSON, anything else as JSON."""
    lines, kind = (body, "x-ndjson") if isinstance(body, list) else ([body], "json")
    data = "\n".join(json.dumps(line) for line in lines).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", f"application/{kind}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def wait_until_ready(url, server):
    for _ in range(300):
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}")
        try:
            return urllib.request.urlopen(f"{url}/readyz").close()
        except OSError:
            time.sleep(0.1)
    sys.exit("the server is not ready after 30 s")


def event(number, now):
    return {
        "user_id": f"user-{number * 7919 % 3000}",
        "ts": (now - datetime.timedelta(minutes=number * 3)).isoformat().replace("+00:00", "Z"),
        "event_id": f"e{number}",
        "category": CATEGORIES[number % 3],
        "amount": number % 1000 / 4 - 20,
        "gift": number % 5 == 0,
        "shop": f"shop {number % 11}",
    }


def send(url, events):
    """Answers how often each user bought shoes, and what is in all rows together."""
    lines = list(events)
    # Again, and in another order.
    lines += [one for one in reversed(events) if int(one["event_id"][1:]) % 10 == 0]
    taken_back = [one for one in events if int(one["event_id"][1:]) % 100 == 7]
    lines += [{"user_id": one["user_id"], "ts": one["ts"], "event_id": one["event_id"], "retract": True} for one in taken_back]
    for begin in range(0, len(lines), 5000):
        answer = call(f"{url}/v1/facts/purchase?visible=true", "POST", lines[begin : begin + 5000])
        assert answer["rejected"] == 0, answer["errors"][:3]
    gone = {one["event_id"] for one in taken_back}
    left = [one for one in events if one["event_id"] not in gone]
    shoes = collections.Counter(one["user_id"] for one in left if one["category"] == "shoes")
    amount = sum(decimal.Decimal(str(one["amount"])) for one in left)
    return shoes, len(events) + len(taken_back), amount


def with_deltalake(table):
    from deltalake import DeltaTable
    import pyarrow

    found = DeltaTable(table)
    assert found.metadata().partition_columns == ["day"], found.metadata()
    rows = pyarrow.table(found.to_pyarrow_table()).to_pylist()
    shops = sum(json.loads(row["undeclared"])["shop"].startswith("shop ") for row in rows)
    return len(rows), sum(row["amount"] * row["weight"] for row in rows), shops


def with_polars(table):
    import polars

    rows = polars.scan_delta(str(table)).collect()
    amount = sum(a * w for a, w in zip(rows["amount"].to_list(), rows["weight"].to_list()))
    return rows.height, amount, rows["undeclared"].str.contains("shop ").sum()


def main():
    beluga = sys.argv[1]
    now = datetime.datetime.now(datetime.timezone.utc)
    events = [event(number, now) for number in range(EVENTS)]
    with tempfile.TemporaryDirectory() as folder:
        data, port = pathlib.Path(folder) / "data", free_port()
        url = f"http://127.0.0.1:{port}"
        server = subprocess.Popen([beluga, "serve", "--data", str(data), "--http", f"127.0.0.1:{port}", "--flight", "off"])
        try:
            wait_until_ready(url, server)
            call(f"{url}/v1/catalog", "PUT", CATALOG)
            shoes, rows, amount = send(url, events)
            for least in (1, 2, 4):
                answer = call(f"{url}/v1/count", "POST", {"where": f"did('purchase', category = 'shoes', count >= {least})"})
                expected = sum(count >= least for count in shoes.values())
                assert answer["count"] == expected, (least, answer, expected)
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, "the server stops well"
        for reader in (with_deltalake, with_polars):
            found = reader(data / "facts" / "purchase")
            if found != (rows, amount, rows):
                sys.exit(f"{reader.__name__}: found {found}, wanted {(rows, amount, rows)}")
            print(f"{reader.__name__}: {found[0]} rows, as sent")


if __name__ == "__main__":
    main()
