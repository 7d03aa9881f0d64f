"""Two engines of a link of pairs in one process, with a wire between them that may be attacked."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event, Thread

import numpy as np
from exchange import Exchange, Tamper, as_sent

from keyferry.engine.block import AliceEnd, BobEnd
from keyferry.engine.budget import Budget
from keyferry.engine.loop import Engine
from keyferry.engine.pairs import PairAlice, PairBob
from keyferry.engine.planning import PadRefill
from keyferry.engine.room import Room
from keyferry.engine.terms import LinkTerms
from keyferry.store.memory import MemoryStore
from qkd_core.ports.link import Outcomes
from qkd_core.types.authentication import PRESHARED_BYTES
from qkd_core.types.bits import pack
from qkd_core.types.ids import KmeId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockState
from qkd_core.types.plans import PairModel, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Method, Reconciliation

LINK = LinkId("fibre-ab")
QBER = 0.02
N_KEY, N_TEST = 60_000, 40_000
SETTINGS = PairSettings(link_s=0.01, window_ps=1000, hold_off_ps=50_000, resolution_ps=16)
MODEL = PairModel(
    key_rate_hz=N_KEY / SETTINGS.link_s,
    test_rate_hz=N_TEST / SETTINGS.link_s,
    key_qber=QBER,
    test_qber=QBER,
)
TERMS = LinkTerms(
    link_id=LINK,
    settings=SETTINGS,
    policy=SecurityPolicy(eps_sec=1e-6, eps_cor=1e-9, abort_rate=0.01),
    accept_provenance=frozenset({Provenance.SIMULATED}),
    config_digest="5a" * 32,
)
CASCADE = Reconciliation(
    method=Method.CASCADE, variant="fast4", frame_bits=1 << 12, roles_swap=True
)
LDPC = Reconciliation(method=Method.LDPC, variant="blind", frame_bits=1 << 20)
LIMIT_S = 40.0  # for what should take a second or two; only a hang reaches it


class FixedClock:
    def now(self) -> float:
        return 1.8e9


@dataclass
class Device:
    """Either end of the pairs; ``rates`` are error rates of blocks, by number."""

    side: Side
    rates: dict[int, float] = field(default_factory=dict)
    dark: frozenset[int] = frozenset()  # all-zero bits at this end
    n_drawn: int = 0
    provenance: Provenance = Provenance.SIMULATED

    def arm(self, block_id, settings) -> None:
        pass

    def outcomes(self, block_id, _channel) -> Outcomes:
        self.n_drawn += 1
        parts = []
        for basis, n in enumerate((N_KEY, N_TEST)):
            rng = np.random.default_rng((block_id, basis))
            bits = rng.integers(0, 2, n, dtype=np.uint8)
            wrong = rng.random(n) < self.rates.get(block_id, QBER)
            if self.side is Side.B:
                bits ^= wrong.astype(np.uint8)
            parts.append(pack(bits * np.uint8(block_id not in self.dark)))
        return Outcomes(N_KEY, N_TEST, *parts)


class Site:
    """One end with its store and its engine."""

    def __init__(self, side: Side, exchange: Exchange, how: Reconciliation, in_flight: int) -> None:
        self.side = side
        self.store = MemoryStore(
            link_id=LINK, side=side, kme_id=KmeId(f"kme-{side}"), clock=FixedClock()
        )
        secret = np.random.default_rng(7).bytes(PRESHARED_BYTES)
        self.store.pads.install_preshared(secret)
        self.device = Device(side)
        self.stop = Event()
        self.error: BaseException | None = None
        room = Room(self.store.blocks, self.store.pads)
        common = {"blocks": self.store.blocks, "room": room}
        if side is Side.A:
            alice = PairAlice(
                terms=TERMS,
                device=self.device,
                pads=self.store.pads,
                configured=MODEL,
                correction=lambda _n, _qber: how,
                refill=PadRefill(pads_per_block=16),
            )
            end = AliceEnd(link=alice, **common)
        else:
            end = BobEnd(link=PairBob(terms=TERMS, device=self.device), **common)
        self.engine = Engine(
            end=end,
            terms=TERMS,
            blocks=self.store.blocks,
            pads=self.store.pads,
            agreement=self.store.agreement,
            room=room,
            budget=Budget(self.store.epsilon, TERMS.policy),
            connect=lambda: exchange.connect(side),
            timeout_s=4.0,
            blocks_in_flight=in_flight,
            stopping=self.stop.is_set,
        )
        self.thread = Thread(target=self.run, name=f"engine-{side}", daemon=True)

    def run(self) -> None:
        try:
            self.engine.run()
        except BaseException as error:
            self.error = error

    def use(self, **changes) -> None:
        """Other terms than the peer has."""
        terms = replace(TERMS, **changes)
        self.engine.terms = terms
        self.engine.end.link.terms = terms

    def available(self) -> dict[int, bytes]:
        """The bits of the available blocks, by number."""
        site = self.store._site
        with site.lock:
            return {
                number: bytes(block.stored)
                for number, block in site.blocks.items()
                if block.state is BlockState.AVAILABLE
            }

    def reasons(self) -> dict[int, str]:
        """Why blocks were discarded, or destroyed when settling, by number."""
        return {
            event.fields["block_id"]: f"{event.fields['reason']}: {event.fields.get('detail')}"
            for event in self.store.events
            if event.action in ("block_discarded", "block_destroyed")
        }


class Pair:
    """Both sites. Use it as a context: it stops both and waits for their threads."""

    def __init__(
        self, how: Reconciliation = CASCADE, in_flight: int = 1, tamper: Tamper = as_sent
    ) -> None:
        self.exchange = Exchange(tamper)
        self.sites = {side: Site(side, self.exchange, how, in_flight) for side in Side}
        self.a, self.b = self.sites[Side.A], self.sites[Side.B]

    def __enter__(self) -> "Pair":
        for site in self.sites.values():
            site.thread.start()
        return self

    def __exit__(self, *_exc) -> None:
        for site in self.sites.values():
            site.stop.set()
        for site in self.sites.values():
            site.thread.join(LIMIT_S)
            assert not site.thread.is_alive(), f"engine {site.side} does not stop"

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not holds():
            assert time.monotonic() < end, f"{what}: not in {LIMIT_S} s"
            time.sleep(0.005)

    def until_available(self, n: int) -> None:
        self.until(
            lambda: min(len(site.available()) for site in self.sites.values()) >= n, f"{n} blocks"
        )

    def errors(self) -> list[BaseException | None]:
        return [site.error for site in self.sites.values()]
