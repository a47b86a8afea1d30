"""An S3 that others made (moto), with a bucket of events; says its address, and ends with its input.

pyarrow writes the Parquet. Odd numbers are in objects that are written while a reader may be looking."""

import datetime
import gzip
import io
import json
import sys

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from moto.server import ThreadedMotoServer

SMALL = 1_100  # Two pages of a listing.
ROWS = 200_000


def line(user):
    return json.dumps({"user_id": f"u{user}", "ts": NOW.isoformat(), "page": "home"}) + "\n"


NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
s3 = boto3.client("s3", endpoint_url=url, region_name="eu-central-1", aws_access_key_id="AKIATESTKEY",
                  aws_secret_access_key="s3cr3t/of+the+test")
s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
for n in range(SMALL):
    s3.put_object(Bucket="bucket", Key=f"in/small/{n:05}.ndjson", Body=line(n))
s3.put_object(Bucket="bucket", Key="in/odd + name %20 äß.csv", Body=f"user_id,ts,page\nu0,{NOW.isoformat()},home\n")
s3.put_object(Bucket="bucket", Key="in/packed.ndjson.gz", Body=gzip.compress("".join(map(line, range(50_000))).encode()))
table = pa.table({
    "user_id": [f"u{n}" for n in range(ROWS)],
    "ts": pa.array([NOW] * ROWS, pa.timestamp("us", "UTC")),
    "page": ["home"] * ROWS,
    "note": [f"{n * 2654435761 % 2**32:08x}" * 8 for n in range(ROWS)],
})
body = io.BytesIO()
pq.write_table(table, body, row_group_size=70_000, use_dictionary=False, compression="snappy")
s3.put_object(Bucket="bucket", Key="in/large.parquet", Body=body.getvalue())
print(url, flush=True)
sys.stdin.read()
server.stop()
