"""One end of the chain as a process: the product's engine over a link that was rehearsed.

    chain_end.py SITE SETTINGS REPORT

SETTINGS is JSON: qber, n_key, n_test, core (to run on), reconciliation. REPORT gets one JSON
line per block that became available: block_id, n_secret, at (monotonic seconds), cpu_s (of the
process, so far), and what error correction took.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import TextIO

from rehearsed_pairs import RehearsedPairs

from keyferry.bootstrap.engine import serve
from keyferry.channel.conversation import Conversation
from keyferry.config.site import SiteSettings, load
from keyferry.engine.block import AliceEnd, BobEnd, LinkEnd
from keyferry.engine.pairs import PairAlice, PairBob
from keyferry.engine.room import Room
from keyferry.engine.terms import LinkTerms
from keyferry.store.sqlite import Store
from qkd_core.types.blocks import DistilledBlock
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairModel, PairSettings
from qkd_core.types.reconciliation import Method, Reconciliation


@dataclass
class Reported:
    """The end itself, with a line for each block that it makes."""

    end: LinkEnd
    report: TextIO

    @property
    def side(self) -> Side:
        return self.end.side

    def run_block(
        self, talk: Conversation, block_id: BlockId, link_is_free: Callable[[], None]
    ) -> DistilledBlock:
        block = self.end.run_block(talk, block_id, link_is_free)
        at = time.monotonic()
        said = {
            "block_id": block_id,
            "n_secret": block.key.n_bits,
            "n_sifted": block.n_sifted,
            "n_errors": block.n_errors,
            "about_key": block.disclosed.about_key,
            "key": sha256(block.key.bits.tobytes()).hexdigest(),  # of a rehearsal: no secret
            "at": at,
            "cpu_s": time.process_time(),
            **asdict(block.effort),
        }
        self.report.write(json.dumps(said) + "\n")
        self.report.flush()
        return block


def terms_of(site: SiteSettings, settings: PairSettings, how: Reconciliation) -> LinkTerms:
    shared = json.dumps([asdict(settings), asdict(site.security), asdict(how)], sort_keys=True)
    return LinkTerms(
        link_id=site.link.link_id,
        settings=settings,
        policy=site.security,
        accept_provenance=site.accept_provenance,
        config_digest=sha256(shared.encode()).hexdigest(),
    )


def main() -> None:
    site_file, told, report = sys.argv[1:]
    site, asked = load(Path(site_file)), json.loads(told)
    if asked["core"] is not None:
        os.sched_setaffinity(0, {asked["core"]})
    settings = PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16)
    counts = asked["n_key"], asked["n_test"]
    model = PairModel(
        key_rate_hz=counts[0],
        test_rate_hz=counts[1],
        key_qber=asked["qber"],
        test_qber=asked["qber"],
    )
    method = Method(asked["reconciliation"].pop("method"))
    how = Reconciliation(method=method, **asked["reconciliation"])
    terms = terms_of(site, settings, how)
    device = RehearsedPairs(counts, asked["qber"], site.side)
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())

    def end_of(store: Store, _: Callable[[], float]) -> LinkEnd:
        room = Room(store.blocks, store.pads, site.keeping)
        if site.side is Side.A:
            alice = PairAlice(
                terms=terms,
                device=device,
                pads=store.pads,
                configured=model,
                correction=lambda n_bits, qber: how,
            )
            return Reported(AliceEnd(link=alice, blocks=store.blocks, room=room), lines)
        bob = PairBob(terms=terms, device=device)
        return Reported(BobEnd(link=bob, blocks=store.blocks, room=room), lines)

    with Path(report).open("w") as lines:
        serve(site, terms, end_of, stopped.is_set)


if __name__ == "__main__":
    main()
