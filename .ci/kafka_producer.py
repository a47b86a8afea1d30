#!/usr/bin/env python3
"""Writes JSON lines to a Kafka topic with a client that is not ours, for ingest/tests/kafka.

    kafka_producer.py BOOTSTRAP TOPIC COUNT [--client kafka-python|confluent-kafka] [--partitions N] [--compression TYPE]
                      [--broker-version 2.0]

Record `i` goes to partition `i % N`, with the user id as its key. Ends when the broker has acknowledged all of them.
"""

import argparse
import json


def records(count):
    for index in range(count):
        user_id = f"u{index}"
        event = {"user_id": user_id, "ts": "2026-11-20T10:00:00Z", "category": "shoes", "amount": index / 100}
        yield index, user_id.encode(), json.dumps(event).encode()


def with_kafka_python(arguments):
    from kafka import KafkaProducer

    compression = None if arguments.compression == "none" else arguments.compression
    # Without a version it asks the broker in a form (ApiVersions v4) that librdkafka's mock broker does not refuse properly.
    version = tuple(int(part) for part in arguments.broker_version.split("."))
    producer = KafkaProducer(
        bootstrap_servers=arguments.bootstrap, acks="all", compression_type=compression, api_version=version
    )
    sent = [
        producer.send(arguments.topic, key=key, value=value, partition=index % arguments.partitions)
        for index, key, value in records(arguments.count)
    ]
    producer.flush(30)
    for future in sent:
        future.get(timeout=30)
    producer.close()


def with_confluent_kafka(arguments):
    from confluent_kafka import Producer

    failures = []

    def delivered(error, _message):
        if error is not None:
            failures.append(error)

    producer = Producer({"bootstrap.servers": arguments.bootstrap, "compression.type": arguments.compression})
    for index, key, value in records(arguments.count):
        producer.produce(
            arguments.topic, key=key, value=value, partition=index % arguments.partitions, on_delivery=delivered
        )
        producer.poll(0)
    left = producer.flush(30)
    if left or failures:
        raise SystemExit(f"{left} records not delivered, {len(failures)} failed: {failures[:3]}")


CLIENTS = {"kafka-python": with_kafka_python, "confluent-kafka": with_confluent_kafka}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("count", type=int)
    parser.add_argument("--client", choices=CLIENTS, default="kafka-python")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--compression", choices=["none", "gzip", "snappy", "lz4", "zstd"], default="none")
    parser.add_argument("--broker-version", default="2.0", help="what kafka-python takes the broker for")
    arguments = parser.parse_args()
    CLIENTS[arguments.client](arguments)
    print(f"{arguments.count} records written with {arguments.client}")


if __name__ == "__main__":
    main()
