"""Deliveries in plenty while processes of both sites are killed at random.

    campaign.py [--deliveries N] [--kills N] [--kill-every SECONDS] [--seed N] [--folder DIR]

Services at both sites fetch keys and their copies; engine, API and jobs of both sites are killed
with SIGKILL and started again. In the end both stores, both audits and all that the services were
given are compared. Prints one JSON object; exits with 1 unless nothing was delivered twice, nothing
differs, and nothing is lost without a record.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from customers import Access, Given, Pair
from field import Field, prepared
from verdict import audit_findings, disagreements, unexplained, waiting, without_an_owner

from qkd_core.types.ids import Side

PAIRS = [(("sae-a", "sae-b"), Side.A), (("sae-b", "sae-a"), Side.B), (("sae-a", "sae-c"), Side.A)]
STOCK_BYTES_PER_DELIVERY = 400  # an API that is killed passes over what it might have given
LEAST_STOCK_BYTES = 6_000_000
LONGEST_S = 1800.0
SETTLE_S = 90.0
EXAMPLES = 5


def campaign(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    stock = max(LEAST_STOCK_BYTES, STOCK_BYTES_PER_DELIVERY * asked.deliveries)
    given = Given()
    begun = time.monotonic()
    with prepared(folder, stock) as field:
        field.start()
        killer = threading.Thread(
            target=field.kill_now_and_then, args=(asked.kill_every, asked.seed)
        )
        pairs = [
            Pair(names, (access(field, names[0], side), access(field, names[1], side.other)), given)
            for names, side in PAIRS
        ]
        try:
            wait_for(lambda: first_answer(field), "both APIs")
            killer.start()
            for pair in pairs:
                pair.start()
            wait_for(lambda: enough(asked, given, field), "deliveries and kills", LONGEST_S)
            busy_s = time.monotonic() - begun
            for pair in pairs:
                pair.stop()
            for pair in pairs:
                pair.join()
            field.no_more_kills()
            killer.join()
            stores = [field.settings[side].store for side in Side]
            wait_for(lambda: settled(field, stores), "nothing to wait to be told", SETTLE_S)
            wait_for(lambda: first_answer(field), "both APIs, for the last copies", SETTLE_S)
            for pair in pairs:
                pair.fetch_the_rest()
        finally:
            field.no_more_kills()
            field.stop()
        return summary(given, field.kills, stores, busy_s)


def summary(
    given: Given, kills: dict[str, int], stores: list[Path], busy_s: float
) -> dict[str, Any]:
    lost = [*unexplained(stores, given), *without_an_owner(stores)]
    differing = list(disagreements(stores))
    return {
        "deliveries": given.deliveries,
        "kills": kills,
        "duplicates": len(given.duplicates),
        "mismatches": len(given.mismatches) + len(differing),
        "losses_without_a_record": len(lost),
        "losses_with_a_record": len(given.masters.keys() - given.slaves.keys()),
        "answers_lost": dict(given.unanswered),
        "audit_findings": audit_findings(stores),
        "examples": [*given.duplicates, *given.mismatches, *differing, *lost][:EXAMPLES],
        "seconds": round(busy_s, 1),
    }


def enough(asked: argparse.Namespace, given: Given, field: Field) -> bool:
    kills = sum(field.kills.values())
    return bool(given.deliveries >= asked.deliveries and kills >= asked.kills)


def access(field: Field, sae: str, side: Side) -> Access:
    saes = field.state.saes
    return Access(
        field.url(side), saes / f"{sae}.pem", saes / f"{sae}.key", field.state.pki / "ca.pem"
    )


def first_answer(field: Field) -> bool:
    field.restart_ended()
    for sae, other, side in (("sae-a", "sae-b", Side.A), ("sae-b", "sae-a", Side.B)):
        with access(field, sae, side).client() as client:
            try:
                client.status(other)
            except Exception:
                return False
    return True


def settled(field: Field, stores: list[Path]) -> bool:
    field.restart_ended()
    with suppress(Exception):
        return not any(waiting(store) for store in stores)
    return False


def wait_for(ready: Any, what: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {limit_s:g} s")
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--deliveries", type=int, default=12_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--kill-every", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.folder is not None:
        asked.folder.mkdir(exist_ok=True)
        result = campaign(asked, asked.folder)
    else:
        with tempfile.TemporaryDirectory(prefix="keyferry-campaign-") as folder:
            result = campaign(asked, Path(folder))
    print(json.dumps(result, indent=1))
    bad = ("duplicates", "mismatches", "losses_without_a_record")
    if any(result[name] for name in bad) or result["audit_findings"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
