#!/usr/bin/env python3
"""Writes records of Avro and Arrow with libraries that are not ours, for api/tests/it/payloads.rs.

    payload_producer.py schema                               prints the schema of the Avro records
    payload_producer.py avro BOOTSTRAP TOPIC COUNT ID        writes such records to a topic, framed with the registry's number ID
    payload_producer.py arrow COUNT COMPRESSION              prints a stream of the same rows; none, lz4 or zstd
"""

import datetime
import decimal
import io
import json
import struct
import sys
import uuid

SCHEMA = {
    "type": "record",
    "name": "Sale",
    "namespace": "shop",
    "fields": [
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "user_id", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "page", "type": {"type": "enum", "name": "Page", "symbols": ["home", "shop"]}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "order_id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "sold_on", "type": {"type": "int", "logicalType": "date"}},
        {"name": "items", "type": {"type": "array", "items": "long"}},
        {"name": "shelf", "type": {"type": "map", "values": ["null", "int"]}},
    ],
}


def row(number):
    time = datetime.datetime(2026, 11, 1, 10, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=number)
    return {
        "note": None if number % 3 else f"nr. {number}",
        "user_id": f"u{number}",
        "ts": time,
        "page": ["home", "shop"][number % 2],
        # Some are negative, some have no cents.
        "amount": decimal.Decimal(number * 25 - 100).scaleb(-2),
        "order_id": uuid.UUID(int=number),
        "sold_on": time.date(),
        "items": list(range(number % 4)),
        "shelf": {"a": number, "b": None},
    }


def write_avro(bootstrap, topic, count, schema_id):
    import confluent_kafka
    import fastavro

    schema = fastavro.parse_schema(SCHEMA)
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        out = io.BytesIO()
        out.write(b"\0" + struct.pack(">I", schema_id))
        fastavro.schemaless_writer(out, schema, row(number))
        producer.produce(topic, out.getvalue(), partition=0)
    left = producer.flush(30)
    assert left == 0, f"{left} records were not written"


def write_arrow(count, compression):
    import pyarrow as pa

    rows = [row(number) for number in range(count)]
    columns = {
        "note": pa.array([row["note"] for row in rows], pa.string()),
        "user_id": pa.array([row["user_id"] for row in rows], pa.large_string()),
        "ts": pa.array([row["ts"] for row in rows], pa.timestamp("us", "UTC")),
        "page": pa.array([row["page"] for row in rows]).dictionary_encode(),
        "amount": pa.array([row["amount"] for row in rows], pa.decimal128(12, 2)),
        "order_id": pa.array([str(row["order_id"]) for row in rows], pa.string()),
        "sold_on": pa.array([row["sold_on"] for row in rows], pa.date32()),
        "items": pa.array([row["items"] for row in rows], pa.list_(pa.int64())),
        "shelf": pa.array([list(row["shelf"].items()) for row in rows], pa.map_(pa.string(), pa.int32())),
    }
    table = pa.table(columns)
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
    with pa.ipc.new_stream(sys.stdout.buffer, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1000)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["schema"]:
            print(json.dumps(SCHEMA))
        case ["avro", bootstrap, topic, count, schema_id]:
            write_avro(bootstrap, topic, int(count), int(schema_id))
        case ["arrow", count, compression]:
            write_arrow(int(count), compression)
        case _:
            sys.exit(__doc__)
