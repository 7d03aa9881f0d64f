"""Many refresh policies, many of them due at once, while the leading jobs processes are killed.

    refresh_scale.py [--policies N] [--due N] [--every SECONDS] [--slots N] [--first-runs]
                     [--seed N] [--folder DIR]

Two sites with two jobs processes each, real stores, the real inter-KME API over mutual TLS, and
files as targets. ``--due`` of the policies are due at each multiple of ``--every``; the others are
there. In each slot the leader of one site is killed with SIGKILL in the middle of its work. In the
end every slot of every policy must have had one run, and both sites must hold the same key. Prints
one JSON object; exits with 1 when anything was missed, doubled, unequal, too slow or too large.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import tomli_w
from crew import Crew, wait_for
from field import prepared
from refresh_verdict import latencies, problems

from keyferry.bootstrap.stores import store_of
from keyferry.config.schedule import schedule_of
from keyferry.config.site import SiteSettings, load
from qkd_core.types.ids import Side

STOCK_BYTES = 6_000_000
IDLE_INTERVAL_S = 86400.0
POLICIES_IN_A_FOLDER = 100  # a folder is what fails as one, so it has a lane of its own
TAKEOVER_LIMIT_S = 5.0
RSS_LIMIT_MB = 200.0
THREADS_LIMIT = 100
SETTLE_S = 60.0
LEAST_IDLE_S = 2.0  # before the first slot, to see what a leader uses that has nothing to do


def campaign(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    dice = random.Random(asked.seed)
    with prepared(folder, STOCK_BYTES) as field:
        for side in Side:
            write_policies(field.settings[side], asked, folder)
        settings = {side: load(field.settings[side].file) for side in Side}
        if not asked.first_runs:
            for site in settings.values():
                anchor(site)
        crew = Crew(settings, field.state.log)
        try:
            began = time.monotonic()
            crew.start()
            wait_for(lambda: all(crew.leader(side) for side in Side), "leaders", 60.0)
            started_s = time.monotonic() - began
            first_runs_s = first_runs(crew, asked) if asked.first_runs else None
            first = next_slot(asked, time.time() + LEAST_IDLE_S)
            crew.rest_until(first - 0.5)
            for number in range(asked.slots):
                crew.watch_until(first + number * asked.every + asked.every * 0.25)
                wait_for(crew.is_busy, "runs under way", asked.every)
                crew.kill_leader(list(Side)[number % 2], dice.uniform(0.0, 0.5))
            last = first + (asked.slots - 1) * asked.every
            crew.watch_until(last + 0.7 * asked.every)
            wait_for(lambda: crew.n_seen_to(last) >= asked.due, "the moments of all", SETTLE_S)
            wait_for(lambda: not crew.is_busy(), "the end of all runs", SETTLE_S)
        finally:
            crew.stop()
        slots = [first + number * asked.every for number in range(asked.slots)]
        fast = [entry.policy for entry in settings[Side.A].policies[: asked.due]]
        found = problems(settings, fast, slots)
        took = latencies(settings, [schedule_of(policy) for policy in fast], slots)
        return {
            "policies": asked.policies,
            "due_in_each_slot": asked.due,
            "slots": asked.slots,
            "runs_of_slots": len(took),
            **{name: len(lines) for name, lines in found.items()},
            "examples": [line for lines in found.values() for line in lines[:2]],
            "seconds_from_due_to_done": {
                "median": round(took[len(took) // 2], 2),
                "longest": round(took[-1], 2),
            }
            if took
            else None,
            "first_runs_s": first_runs_s,
            "kills": len(crew.takeovers_s),
            "takeover_s": {
                "each": [round(each, 2) for each in crew.takeovers_s],
                "limit": TAKEOVER_LIMIT_S,
            },
            "rss_mb": {
                "at_first": round(crew.rss_mb[0], 1),
                "highest": round(max(crew.rss_mb), 1),
                "limit": RSS_LIMIT_MB,
            },
            "threads": {"most": max(crew.threads), "limit": THREADS_LIMIT},
            "cpu_of_an_idle_leader": crew.idle_cpu,
            "start_s": round(started_s, 1),
        }


def write_policies(site: SiteSettings, asked: argparse.Namespace, folder: Path) -> None:
    """The same policies in both files; every other one is initiated by B."""
    content = tomllib.loads(site.file.read_text())
    content["policies"] = []
    for number in range(asked.policies):
        place = folder / f"targets-{site.side}" / f"{number // POLICIES_IN_A_FOLDER}"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        due = number < asked.due
        content["policies"].append(
            {
                "name": f"p{number}",
                "n_bits": 256,
                "interval_s": asked.every if due else IDLE_INTERVAL_S,
                "jitter_s": asked.every / 4 if due else 0.0,
                "initiator": list(Side)[number % 2].value,
                "target": {"kind": "file", "path": str(place / f"p{number}")},
            }
        )
    site.file.write_text(tomli_w.dumps(content))


def anchor(site: SiteSettings) -> None:
    """As if all had run before: else each would be due at the first start."""
    with closing(store_of(site, "setup", witnessed=False)) as store:
        for entry in site.policies:
            if entry.policy.initiator is site.side:
                last = schedule_of(entry.policy).last(time.time())
                store.policies.anchor(entry.policy.name, last)


def first_runs(crew: Crew, asked: argparse.Namespace) -> float:
    """How long it takes when all policies are due at once."""
    began = time.monotonic()
    wait_for(lambda: crew.n_done() >= asked.policies, "the first run of all", 600.0, crew.look)
    return round(time.monotonic() - began, 1)


def next_slot(asked: argparse.Namespace, now: float) -> float:
    """The first that has not begun."""
    return float((now // asked.every + 1) * asked.every)


def bad(result: dict[str, Any]) -> bool:
    limits = (
        max(result["takeover_s"]["each"], default=0.0) > TAKEOVER_LIMIT_S,
        result["rss_mb"]["highest"] > RSS_LIMIT_MB,
        result["threads"]["most"] > THREADS_LIMIT,
        result["runs_of_slots"] != result["due_in_each_slot"] * result["slots"],
    )
    return any(limits) or bool(result["examples"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--policies", type=int, default=1000)
    parser.add_argument("--due", type=int, default=100)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--first-runs", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    os.umask(0o077)
    if asked.folder is not None:
        asked.folder.mkdir(exist_ok=True)
        result = campaign(asked, asked.folder)
    else:
        with tempfile.TemporaryDirectory(prefix="keyferry-scale-") as folder:
            result = campaign(asked, Path(folder))
    print(json.dumps(result, indent=1))
    if bad(result):
        sys.exit(1)


if __name__ == "__main__":
    main()
