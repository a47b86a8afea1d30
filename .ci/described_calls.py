"""Calls a server as its OpenAPI description says one may, and as it says one may not, thousands of times (schemathesis): whatever comes is
answered, with a status and a body that are described, and never with an error of the server.

Usage: described_calls.py BELUGA [EXAMPLES]. Needs schemathesis; EXAMPLES are tried of each call, 20 unless it is told.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

CATALOG = {
    "tags": {
        "gender": {"type": "enum"},
        "age": {"type": "number"},
        "interest": {"type": "set"},
        "is_member": {"type": "flag"},
    },
    "facts": {"purchase": {"columns": {"category": "string", "amount": {"decimal": [12, 2]}}, "activity": {"dimensions": ["category"]}}},
    "spaces": {"taste": {"dimension": 2, "metric": "cosine"}},
}
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Beside what is well and what is refused: not there yet, too much at once, out of time.
SETTINGS = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501, 503, 504]
"""
# Bodies that schemathesis knows no way to write: bytes as they are, and a line for whatever else.
HOOKS = """
import json
import schemathesis

def written(value):
    return value if isinstance(value, bytes) else (json.dumps(value) + "\\n").encode()

for media_type in ["application/x-ndjson", "application/vnd.apache.arrow.stream", "text/csv"]:
    schemathesis.serializer(media_type)(lambda ctx, value: written(value))
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(url, method, token, body=None, content_type="application/json"):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    headers = {"content-type": content_type, "authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
        return json.loads(answer.read() or b"null")


def wait_until_ready(url, token, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("the server ended before it was ready")
        try:
            return call(f"{url}/readyz", "GET", token)
        except OSError:
            time.sleep(0.1)
    sys.exit("the server is not ready after a minute")


def fill(url, token):
    call(f"{url}/v1/catalog", "PUT", token, CATALOG)
    people = ({"user_id": f"u{number}", "set": {"age": number % 90, "is_member": True}} for number in range(500))
    call(f"{url}/v1/tags", "POST", token, "".join(json.dumps(one) + "\n" for one in people).encode(), "application/x-ndjson")
    call(f"{url}/v1/audiences/old", "PUT", token, {"where": "age > 60"})


def main():
    beluga = pathlib.Path(sys.argv[1]).resolve()
    examples = sys.argv[2] if len(sys.argv) > 2 else "20"
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder, "data")
        create = [beluga, "token", "create", "ci", "--scope", "query,export,ingest,admin", "--data", data]
        created = subprocess.run(create, check=True, capture_output=True, text=True)
        token = created.stdout.split()[0]
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = pathlib.Path(folder, "log")
        with log.open("w") as told:
            serve = [beluga, "serve", "--data", data, "--http", f"127.0.0.1:{port}", "--flight", "off"]
            server = subprocess.Popen(serve, stderr=told)
        try:
            wait_until_ready(url, token, server)
            fill(url, token)
            pathlib.Path(folder, "hooks.py").write_text(HOOKS)
            pathlib.Path(folder, "schemathesis.toml").write_text(SETTINGS)
            run = [pathlib.Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json"]
            run += ["--max-examples", examples, "--checks", CHECKS, "--continue-on-failure", "--no-color", "--seed", "1"]
            # A stream has no end.
            run += ["--exclude-path-regex", "/changes$"]
            run += ["-H", f"Authorization: Bearer {token}", "--workers", "2", "--request-timeout", "60"]
            done = subprocess.run(run, cwd=folder, env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks"}, text=True, capture_output=True)
            # What it cannot write or read itself it calls errors: those are its own.
            failures = done.stdout.find("= FAILURES =")
            print(done.stdout[failures:] if failures >= 0 else done.stdout[-1_500:])
            is_well = call(f"{url}/healthz", "GET", token) is not None
        finally:
            server.send_signal(signal.SIGTERM)
            ended = server.wait(60)
        panics = [line for line in log.read_text().splitlines() if "panic" in line]
        if "Test cases:" not in done.stdout:
            sys.exit(f"schemathesis did not run: {done.stdout[-1_000:]} {done.stderr[-2_000:]}")
        if failures >= 0 or panics or ended or not is_well:
            sys.exit("\n".join([*panics, f"a call was not answered as it is described, or the server ended with {ended}"]))


if __name__ == "__main__":
    main()
