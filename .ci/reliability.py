"""Tries to break what Beluga promises, as often as it is told, and writes what came of it into RELIABILITY.md.

Usage: reliability.py [TIMES] [BELUGA]. TIMES multiplies what each run of CI does, which is 1; BELUGA is a binary for the calls of another
maker's tool (they are left out without it, and need schemathesis).
"""

import datetime
import os
import pathlib
import platform
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def cargo(*arguments):
    return ["cargo", "test", "--locked", *arguments]


def trials(times, beluga):
    """What, how often, a command and its settings."""
    crash, delta, kills, asked = 350 * times, 200 * times, 30 * times, 600 * times
    kinds = 4
    yield (
        f"{kinds} kinds of histories of the store on a simulated disk: restarts, power cuts with unsynced pages dropped or torn, cuts "
        "after kills, the n-th call failing; erasures and purges among the steps",
        f"{kinds * crash:,} histories",
        cargo("--workspace", "--test", "crash"),
        {"BELUGA_CRASH_SEEDS": crash},
    )
    yield (
        "3 kinds of the same with Delta Lake tables below",
        f"{3 * delta:,} histories",
        cargo("--workspace", "--test", "power"),
        {"BELUGA_DELTA_SEEDS": delta},
    )
    yield (
        "the real binary killed by SIGKILL while updates, events and jobs come, started again, compared with what it acknowledged",
        f"{kills} kills",
        cargo("--workspace", "--test", "it", "--", "crash::", "sinks::killed"),
        {"BELUGA_CRASH_ROUNDS": kills},
    )
    yield (
        "random audiences over random users against plain SQL over the same users",
        f"{asked:,} questions",
        cargo("--workspace", "--test", "it", "--", "oracle::"),
        {"BELUGA_ORACLE_ROUNDS": asked},
    )
    yield (
        "privacy policies attacked: differences, averages, overlaps, searches for the line",
        f"{400 * times:,} rounds of each",
        cargo("--workspace", "--lib", "--", "privacy::"),
        {"BELUGA_PRIVACY_ROUNDS": 400 * times},
    )
    if beluga:
        yield (
            "calls as the OpenAPI description allows and forbids them, by schemathesis",
            f"{20 * times} examples a call",
            [sys.executable, str(HERE / "described_calls.py"), beluga, str(20 * times)],
            {},
        )


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    beluga = sys.argv[2] if len(sys.argv) > 2 else None
    rows, is_well = [], True
    for what, often, command, settings in trials(times, beluga):
        print(f"== {what}: {often}", flush=True)
        begun = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **{name: str(value) for name, value in settings.items()}})
        is_well &= done.returncode == 0
        rows.append(f"| {what} | {often} | {'held' if done.returncode == 0 else '**broke**'} | {time.monotonic() - begun:.0f} s |\n")
    date = datetime.date.today().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, test profile"
    told = [f"{date}, {machine}, {times} times what CI does.\n\n", "| what | how often | outcome | time |\n|---|---|---|---|\n", *rows]
    page = ROOT / "RELIABILITY.md"
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + "".join(told) + END + rest.split(END)[1])
    sys.exit(not is_well)


if __name__ == "__main__":
    main()
