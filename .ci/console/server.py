"""A server with people, what they do, and vectors of them: the same at each run."""

import datetime
import json
import math
import pathlib
import random
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

PEOPLE = 6_000
PURCHASES = 12_000
IMPRESSIONS = 12_000
CHANNELS = {"search": 30, "video": 26, "social": 22, "display": 14, "radio": 5, "email": 3}
PROVINCES = {"zhejiang": 30, "jiangsu": 24, "guangdong": 20, "shanghai": 14, "sichuan": 8, "hainan": 4}
INTERESTS = ["yoga", "running", "golf", "tennis", "cooking", "travel", "photography", "gaming", "reading", "hiking", "music", "films"]
CATEGORIES = {"shoes": 40, "hats": 12, "bags": 22, "watches": 6, "coats": 20}
CATALOG = {
    "tags": {
        "gender": {"type": "enum"},
        "age": {"type": "number"},
        "province": {"type": "enum"},
        "city_tier": {"type": "number"},
        "interest": {"type": "set"},
        "is_member": {"type": "flag"},
        "ads_consent": {"type": "flag"},
        "spend": {"type": "number", "scale": 2},
        "registered_at": {"type": "number", "unit": "timestamp"},
    },
    "facts": {
        "purchase": {
            "columns": {"category": "string", "campaign": "string", "amount": {"decimal": [12, 2]}},
            "activity": {"dimensions": ["category", "campaign"], "measures": ["amount"]},
            "retention": "400 days",
        },
        "visit": {"columns": {"page": "string"}, "activity": {"dimensions": ["page"]}},
        "impression": {
            "columns": {"channel": "string", "price": {"decimal": [10, 3]}},
            "activity": {"dimensions": ["channel"], "measures": ["price"]},
        },
        "click": {"columns": {"channel": "string"}, "activity": {"dimensions": ["channel"]}},
    },
    "spaces": {"taste": {"dimension": 16, "metric": "cosine"}},
}
AUDIENCES = {
    "women_25_34": ("gender = 'f' AND age BETWEEN 25 AND 34", "Women of the first age band", False),
    "yogis": ("interest = 'yoga'", "Like yoga", False),
    "members": ("is_member", "Signed up for the programme", False),
    "big_spenders": ("spend >= 400", "Spent 400 or more", False),
    "shoe_buyers": ("did('purchase', category = 'shoes', count >= 2, within => '30 days')", "Bought shoes twice in a month", True),
    "active_today": ("did('visit', within => '24 hours')", "Came by in the last day", True),
}


class Server:
    def __init__(self, beluga):
        self.beluga = beluga
        self.token = None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        root = pathlib.Path(self.folder.name)
        self.files = root / "in"
        self.files.mkdir()
        # Its own files are in the binary: it runs where there are none.
        self.process = subprocess.Popen(
            [self.beluga, "serve", "--data", str(root / "data"), "--http", "127.0.0.1:0", "--flight", "127.0.0.1:0",
             "--set", f"source_folders={self.files}"],
            cwd=root, stderr=subprocess.PIPE, text=True)
        self.url = None
        for line in self.process.stderr:
            if " serves " in line and " at http://" in line:
                self.url = line.rsplit(" at ", 1)[1].strip()
                break
        assert self.url, "the server ended before it was ready"
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()
        self.load()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.folder.cleanup()

    def call(self, method, path, body=None):
        data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def count(self, expression):
        return self.call("POST", "/v1/count", {"where": expression})["count"]

    def lines(self, path, lines):
        answer = self.call("POST", path, "\n".join(json.dumps(line) for line in lines))
        assert answer["rejected"] == 0, answer

    def load(self):
        rng = random.Random(20)
        source = {"files": {"paths": str(self.files / "visits*.ndjson"), "watch": True, "every": "100 ms"}, "into": "visit"}
        self.call("PUT", "/v1/catalog", {**CATALOG, "sources": {"site": source}})
        people, vectors = [], []
        for at in range(PEOPLE):
            person, vector = a_person(rng, at)
            people.append(person)
            vectors.append({"user_id": person["user_id"], "vector": vector})
        self.lines("/v1/tags", people)
        self.lines("/v1/spaces/taste", vectors)
        self.lines("/v1/facts/purchase?visible=true", [a_purchase(rng) for _ in range(PURCHASES)])
        self.campaign()
        for name, (where, description, live) in AUDIENCES.items():
            self.call("PUT", f"/v1/audiences/{name}", {"where": where, "description": description, "live": live})
        self.visits("first", 800)
        job_file = self.files / "late-purchases.csv"
        rows = [f"u{rng.randrange(PEOPLE)},{moment(rng.random() * 40)},{category(rng)},{rng.random() * 90:.2f}" for _ in range(4_000)]
        job_file.write_text("user_id,ts,category,amount\n" + "\n".join(rows + ["u1,never,shoes,1"]) + "\n")
        backfill = {"name": "late purchases", "files": [str(job_file)], "into": "purchase"}
        self.call("POST", "/v1/jobs", {"backfill": backfill})
        slow = {"name": "slow purchases", "files": [str(job_file)], "into": "purchase"}
        self.call("POST", "/v1/jobs", {"backfill": slow, "rate": 5})
        self.call("POST", "/v1/tags?visible=true", "")

    def campaign(self):
        """Impressions by channel, some without one, and the clicks on them."""
        rng = random.Random(7)
        shown = [an_impression(rng) for _ in range(IMPRESSIONS)]
        clicks = [{key: one[key] for key in ["user_id", "ts", "channel"] if key in one} for one in shown if rng.random() < 0.06]
        self.lines("/v1/facts/impression", shown)
        self.lines("/v1/facts/click?visible=true", clicks)

    def visits(self, name, how_many):
        """Events by way of the declared source."""
        rng = random.Random(name)
        lines = [{"user_id": f"u{rng.randrange(PEOPLE)}", "ts": moment(0), "page": rng.choice(["home", "sale", "shoes"])} for _ in range(how_many)]
        (self.files / f"visits-{name}.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def streaming(self):
        return Streaming(self)


class Streaming:
    """Events that keep coming, for as long as it is open."""

    def __init__(self, server):
        self.server, self.over = server, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        rng = random.Random(5)
        while not self.over.wait(0.2):
            now = {"ts": moment(0)}
            self.server.lines("/v1/facts/purchase", [{**a_purchase(rng), **now} for _ in range(40)])
            self.server.visits(f"{time.monotonic_ns()}", 20)


def a_person(rng, at):
    gender = rng.choice("ffm")
    sporty = rng.random() < (0.5 if gender == "f" else 0.3)
    likes = rng.sample(INTERESTS[:4], 2) if sporty else rng.sample(INTERESTS[4:], 2)
    age = int(min(80, max(18, rng.gauss(31 if sporty else 42, 10))))
    tags = {
        "gender": gender, "age": age, "city_tier": rng.choice([1, 1, 2, 2, 3, 4]), "ads_consent": rng.random() < 0.7,
        "is_member": rng.random() < (0.4 if sporty else 0.15), "spend": round(rng.lognormvariate(5.2 if sporty else 4.4, 0.8), 2),
        "province": rng.choices(list(PROVINCES), PROVINCES.values())[0],
        "registered_at": moment(rng.random() * 1_500),
    }
    if rng.random() < 0.1:
        del tags["province"]
    direction = [math.sin(one * (2 if sporty else 5)) for one in range(16)]
    vector = [round(component + rng.gauss(0, 0.6), 4) for component in direction]
    return {"user_id": f"u{at}", "set": tags, "add": {"interest": likes}}, vector


def category(rng):
    return rng.choices(list(CATEGORIES), CATEGORIES.values())[0]


def a_purchase(rng):
    event = {"user_id": f"u{rng.randrange(PEOPLE)}", "ts": moment(rng.random() * 60), "category": category(rng), "amount": round(rng.lognormvariate(3, 1), 2)}
    if rng.random() < 0.6:
        event["campaign"] = rng.choice(["spring", "autumn", "newsletter"])
    return event


def an_impression(rng):
    channel = rng.choices(list(CHANNELS), CHANNELS.values())[0]
    # Channels reach parts of the people, which overlap; some are shown much.
    begin = list(CHANNELS).index(channel) * PEOPLE // 9
    reached = min(PEOPLE - 1, begin + int(min(rng.expovariate(5), rng.random()) * PEOPLE / 2))
    event = {"user_id": f"u{reached}", "ts": moment(rng.random() ** 1.4 * 30), "price": round(rng.uniform(0.002, 0.03), 3)}
    if rng.random() < 0.97:
        event["channel"] = channel
    return event


def moment(days_ago):
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days_ago)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
