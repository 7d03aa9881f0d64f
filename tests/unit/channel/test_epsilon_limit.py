"""A link whose epsilon is spent begins no block any more; what it has stored still goes out."""

import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from exchange import Exchange, as_sent
from two_engines import Pair

sys.path.pop(0)

from keyferry.engine import block as engine_block
from keyferry.engine.block import store_and_confirm
from keyferry.engine.budget import Budget
from keyferry.engine.loop import Engine
from keyferry.engine.room import Room
from keyferry.engine.terms import LinkTerms
from keyferry.store.checks.examples import LATER, a_request
from qkd_core.errors import ChannelError, EpsilonSpent, NotAccepted
from qkd_core.types.authentication import MessageKind
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.ids import BlockId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockState
from qkd_core.types.plans import DecoySettings, SecurityPolicy

A, B = Side.A, Side.B
POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01)
FOUR_BLOCKS = EpsilonLimits(alarm=2e-9, limit=4.5e-9)
NOT_ACCEPTED = BlockId(2)
IN_FLIGHT = 2
TERMS = LinkTerms(
    link_id=LinkId("fibre-ab"),
    settings=DecoySettings(
        clock_hz=1e9,
        n_pulses=1000,
        intensities=(0.5, 0.1, 0.0),
        probabilities=(0.5, 0.25, 0.25),
        p_key_basis=0.9,
    ),
    policy=POLICY,
    accept_provenance=frozenset({Provenance.SIMULATED}),
    config_digest="5a" * 32,
)
LIMIT_S = 60.0  # for what should take a second or two; only a hang reaches it


@dataclass
class Distilling:
    """One end of a link whose blocks come as made; one of them is not accepted."""

    side: Side
    store: object
    room: Room
    make: object

    def run_block(self, talk, block_id, link_is_free):
        self.store.blocks.begin(block_id, POLICY)
        if self.side is A:
            talk.send(MessageKind.START, b"")
            if block_id == NOT_ACCEPTED:
                raise NotAccepted("errors", 9, 5)
        else:
            talk.receive(MessageKind.START)
        link_is_free()
        store_and_confirm(talk, self.store.blocks, self.make(block_id), self.room)
        return SimpleNamespace(key=SimpleNamespace(n_bits=1))


@dataclass
class Running:
    """An engine in a thread of its own."""

    store: object
    engine: Engine
    stop: Event
    errors: list = field(default_factory=list)
    thread: Thread = field(init=False)

    def __post_init__(self):
        self.engine.stopping = self.stop.is_set
        self.thread = Thread(target=self.run, daemon=True)

    def run(self):
        try:
            self.engine.run_until_rekeyed()
        except BaseException as error:
            self.errors.append(error)

    @property
    def spent(self):
        return self.store.epsilon.figures()


@pytest.fixture
def engines(ends, block, monkeypatch):
    """Both, not started; they are stopped in the end, and none may have failed."""
    monkeypatch.setattr(engine_block, "new_block", lambda distilled: distilled)
    exchange = Exchange(as_sent)
    made = {}
    for side, end in ends.items():
        room = Room(end.store.blocks, end.store.pads)
        engine = Engine(
            end=Distilling(side, end.store, room, block),
            terms=TERMS,
            blocks=end.store.blocks,
            pads=end.store.pads,
            agreement=end.store.agreement,
            room=room,
            budget=Budget(end.store.epsilon, POLICY),
            connect=lambda side=side: exchange.connect(side),
            timeout_s=2.0,
            blocks_in_flight=IN_FLIGHT,
        )
        made[side] = Running(end.store, engine, Event())
    yield made
    for each in made.values():
        each.stop.set()
    for each in made.values():
        if each.thread.ident is not None:
            each.thread.join(LIMIT_S)
            assert not each.thread.is_alive()
        assert each.errors == []


def until(holds, what):
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, f"{what}: not in {LIMIT_S} s"
        time.sleep(0.01)


def start(engines):
    for each in engines.values():
        each.thread.start()


def stands_still(caplog, n_ends):
    said = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    return len(said) == n_ends


def available(store):
    return [i for i in range(1, 9) if store.blocks.state(BlockId(i)) is BlockState.AVAILABLE]


def test_both_ends_stop_at_the_limit_and_an_aborted_block_counts(engines, caplog):
    caplog.set_level(logging.CRITICAL)
    for each in engines.values():
        each.store.epsilon.set_limits(FOUR_BLOCKS)
    start(engines)
    until(lambda: stands_still(caplog, 2), "both stand still")

    for each in engines.values():
        assert each.spent.n_blocks == 4
        assert 4.004e-9 <= each.spent.total < 4.005e-9
        assert each.spent.exhausted
        assert each.spent.alarmed
        assert available(each.store) == [1, 3, 4]  # those in flight were finished
        assert each.store.figures().alarms == {"epsilon": 1, "epsilon_exhausted": 1}
        assert each.store.allocations.deliver(a_request(), LATER)
    told = caplog.records[0].getMessage()
    assert told.startswith("epsilon 4.01e-9 is spent, a block costs 1.01e-9,")
    assert told.endswith("epsilon_limit is 4.5e-09: the link stands still, it needs a rekey")


def test_one_end_with_a_limit_stops_both(engines, caplog):
    caplog.set_level(logging.CRITICAL)
    engines[B].store.epsilon.set_limits(FOUR_BLOCKS)
    start(engines)
    until(lambda: stands_still(caplog, 1), "B stands still")
    until(lambda: len(available(engines[A].store)) == 3, "A has what B has")

    assert engines[B].spent.n_blocks == 4
    assert 4 <= engines[A].spent.n_blocks <= 4 + IN_FLIGHT  # B took no part in them any more
    assert not engines[A].spent.exhausted
    assert available(engines[A].store) == available(engines[B].store) == [1, 3, 4]


def test_a_link_whose_epsilon_is_spent_does_not_even_connect(engines):
    store, engine = engines[A].store, engines[A].engine
    store.epsilon.set_limits(EpsilonLimits(limit=1e-9))
    engine.connect = lambda: pytest.fail("it connects")
    with pytest.raises(EpsilonSpent):
        engine.run()
    assert store.epsilon.figures().total == 0

    connected = []

    def connect():
        connected.append(None)
        raise ChannelError("nobody came")

    store.epsilon.set_limits(EpsilonLimits(limit=2e-9))
    engine.connect, engine.stopping = connect, lambda: bool(connected)
    engine.run()  # the limit was raised
    assert connected


def watched(pair):
    """How many blocks each end has paid for, whenever its device is made ready for one."""
    spent = {side: [] for side in Side}
    for side, site in pair.sites.items():

        def arm(_block_id, _settings, site=site, spent=spent[side]):
            spent.append(site.store.epsilon.figures().n_blocks)

        site.device.arm = arm
    return spent


def test_whole_engines_spend_what_each_plan_says_before_the_link_is_used():
    pair = Pair(in_flight=2)
    for site in pair.sites.values():
        site.store.epsilon.set_limits(EpsilonLimits(limit=3.5e-6))
    pair.b.device.rates[2] = 0.5
    spent = watched(pair)
    with pair:
        pair.until(lambda: all(pair.errors()), "both ends are at their limit")
    for site in pair.sites.values():
        assert isinstance(site.error, EpsilonSpent)
        assert list(site.available()) == [1, 3]
        figures = site.store.epsilon.figures()
        assert figures.n_blocks == 3
        assert figures.blocks == pytest.approx(3 * 1.001e-6, rel=1e-12)
        assert spent[site.side] == [1, 2, 3]
        # Both ways: plan, clicks, acceptances and confirmations at least, and settling.
        assert figures.n_tags >= 2 * 6 + 4
    tags = [site.store.epsilon.figures().n_tags for site in pair.sites.values()]
    assert tags[0] == tags[1]  # what one end sends the other verifies; a run here is one pad long
    assert pair.a.device.n_drawn == pair.b.device.n_drawn == 3
