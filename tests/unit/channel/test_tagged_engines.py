"""Two whole engines on simulated time tags: clocks, coincidences, keys, and what breaks them."""

import json
import logging
import sys
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import pytest

from keyferry.engine import loop
from keyferry.engine.pairs import LearningEnd
from keyferry.engine.planning import PadRefill
from keyferry.engine.tagged_pairs import TaggedAlice, TaggedBob
from qkd_certify import check
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import Provenance, Side
from qkd_sim_link.physics.pairs import expected_pair_model
from qkd_sim_link.sampling.pairs import Clocks, PairLaw, sample_pairs
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.scenarios.pairs import PairScenario

sys.path.insert(0, str(Path(__file__).parent))
from two_engines import Pair

sys.path.pop(0)

DRIFT = 3e-6
BLOCK_PS = 10**12  # from one block's beginning to the next one's


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """What is tested is what comes after a pause, not how long it is."""
    monkeypatch.setattr(loop.Pause, "take", lambda _: time.sleep(0.02))


def scenario_of(**source) -> PairScenario:
    """Short blocks of the shipped link, with more of the test basis."""
    shipped = load_link("entangled-25km")
    assert isinstance(shipped, PairScenario)
    return replace(
        shipped,
        source=replace(shipped.source, **source),
        receiver=replace(shipped.receiver, p_key_basis=0.7),
        settings=replace(shipped.settings, link_s=0.4),
    )


USUAL = scenario_of()


drawn = lru_cache(maxsize=16)(sample_pairs)  # once for both ends


@dataclass
class Tags:
    """Either end's device; both draw what the source does from the block's number.

    ``others``: blocks of another link, by number. ``steps_ps``: Bob's clock jumps at a block.
    ``apart``: blocks in which this end sees light that the other end does not.
    """

    side: Side
    others: dict[int, PairScenario] = field(default_factory=dict)
    steps_ps: dict[int, int] = field(default_factory=dict)
    apart: frozenset[int] = frozenset()
    provenance: Provenance = Provenance.SIMULATED

    def arm(self, block_id, settings) -> None:
        pass

    def tags(self, block_id) -> Detections:
        scenario = self.others.get(block_id, USUAL)
        begun = block_id * BLOCK_PS
        ahead = 7 * 10**11 + round(begun * DRIFT)
        clocks = Clocks(
            alice_ps=begun,
            bob_ps=begun + ahead + sum(ps for n, ps in self.steps_ps.items() if n <= block_id),
            drift=DRIFT,
            skew_ps=(-1) ** block_id * 10**9,
        )
        seed = block_id + 1000 * (block_id in self.apart)
        time_ps, detector = drawn(PairLaw(scenario, scenario.settings), clocks, seed)[self.side]
        return Detections(block_id, time_ps, detector.copy(), self.provenance)


def tagged(in_flight=1, tamper=None) -> Pair:
    """Two engines whose devices are `Tags`."""
    pair = Pair(in_flight=in_flight, **({} if tamper is None else {"tamper": tamper}))
    for site in pair.sites.values():
        site.use(settings=USUAL.settings)
        site.engine.timeout_s = 30.0  # a search without a find takes a second or two of a processor
        site.device = Tags(site.side)
        link = site.engine.end.link
        kind = TaggedAlice if site.side is Side.A else TaggedBob
        link.device = kind(device=site.device, settings=USUAL.settings)
    alice = pair.a.engine.end
    alice.link.configured = expected_pair_model(USUAL)
    alice.link.refill = PadRefill(pads_per_block=0)  # the pre-shared pads are enough here
    pair.a.engine.end = LearningEnd(end=alice, link=alice.link)
    return pair


def require_equal_keys(pair):
    a, b = pair.a.available(), pair.b.available()
    both = set(a) & set(b)
    assert all(a[number] == b[number] for number in both)
    assert all(any(bits) for bits in a.values())
    return both


@pytest.mark.parametrize("in_flight", [1, 3])
def test_time_tags_become_equal_keys_and_the_clock_is_found_once(in_flight, caplog):
    caplog.set_level(logging.INFO)
    with tagged(in_flight) as pair:
        pair.until_available(4)

    assert len(require_equal_keys(pair)) >= 4
    assert not pair.a.reasons().keys() & {1, 2, 3, 4}
    assert pair.errors() == [None, None]
    found = [text for text in caplog.messages if text.startswith("the peer's clock is found")]
    assert found == [text for text in found if "+0.70000" in text and text.endswith("+3 ppm")]
    assert len(found) == 1
    told = [text for text in caplog.messages if "QBER" in text]
    assert "fidelity at least 0.9" in told[0]
    assert "S 2.7" in told[0]


def test_the_independent_verifier_accepts_what_a_block_of_tags_rests_on(monkeypatch):
    made = []

    def kept(end, *arguments):
        made.append(run_block(end, *arguments))
        return made[-1]

    run_block = LearningEnd.run_block
    monkeypatch.setattr(LearningEnd, "run_block", kept)
    with tagged() as pair:
        pair.until(lambda: made, "a block")

    certificate = json.loads(json.dumps(made[0].certificate()))
    verdict = check(certificate)

    assert verdict.theorem == "bbm92"
    assert verdict.n_secret_max >= made[0].key.n_bits > 1000
    counts = made[0].tallies
    assert counts.n_key > made[0].plan.key_count.low
    assert counts.n_test > made[0].plan.test_count_min


def test_a_clock_that_jumps_is_found_anew_and_no_block_is_lost(caplog):
    caplog.set_level(logging.INFO)
    pair = tagged()
    pair.b.device.steps_ps[3] = pair.a.device.steps_ps[3] = 4 * 10**9
    with pair:
        pair.until_available(4)

    assert require_equal_keys(pair) >= {1, 2, 3, 4}
    assert sum("clock is found" in text for text in caplog.messages) == 2


def test_ends_without_common_light_drop_the_block_by_name_and_go_on():
    pair = tagged()
    pair.a.device.apart = frozenset({2})
    with pair:
        pair.until_available(3)

    assert require_equal_keys(pair) >= {1, 3}
    assert pair.a.reasons()[2].startswith("ClockNotFound: ")
    assert pair.b.reasons()[2].startswith("PeerAborted: ClockNotFound: ")


def test_a_planner_learns_a_darker_link_from_blocks_that_it_drops():
    pair = tagged()
    darker = scenario_of(pair_rate_hz=3e6)
    for site in pair.sites.values():
        site.device.others.update(dict.fromkeys(range(2, 200), darker))
    with pair:
        pair.until(lambda: max(pair.b.available(), default=0) > 2, "key of the darker link")

    assert pair.a.reasons()[2].startswith("NotAccepted: the number of key bits is ")
    assert 1 in require_equal_keys(pair)


def test_errors_of_the_key_basis_alone_are_learned_from_keys_that_are_not_corrected():
    """The test basis says nothing of them; what is lost are blocks, never secrecy."""
    pair = tagged()
    turned = scenario_of(key_error=0.045)
    for site in pair.sites.values():
        site.device.others.update(dict.fromkeys(range(2, 200), turned))
    with pair:
        pair.until(lambda: max(pair.b.available(), default=0) > 2, "key of the turned link")

    assert 2 in pair.a.reasons()
    assert 1 in require_equal_keys(pair)


def test_errors_of_the_test_basis_beyond_the_plan_drop_the_block():
    pair = tagged()
    tapped = scenario_of(test_error=0.15)
    for site in pair.sites.values():
        site.device.others[2] = tapped
    with pair:
        pair.until_available(1)
        pair.until(lambda: 2 in pair.a.reasons(), "the tapped block")

    assert 2 not in require_equal_keys(pair)
    told = "NotAccepted: the error count of the test basis is "
    assert any(told in site.reasons()[2] for site in pair.sites.values())


class Once:
    """Changes the body of one frame of each kind, in blocks apart; then all is well."""

    def __init__(self, change, kinds):
        self.change, self.left, self.attacked = change, list(kinds), {}
        self.lock = Lock()

    def __call__(self, _receiver, frame):
        kind, block = frame.header.kind, frame.header.block_id
        with self.lock:
            if kind not in self.left or block <= max(self.attacked.values(), default=0) + 1:
                return [frame]
            self.left.remove(kind)
            self.attacked[kind] = block
        body = self.change(bytes(frame.body))
        return [frame._replace(header=replace(frame.header, n_body=len(body)), body=body)]


def flipped(body):
    return body[:-1] + bytes([body[-1] ^ 1])


def halved(body):
    return body[: len(body) // 2]


@pytest.mark.parametrize("change", [flipped, halved])
def test_an_attack_on_what_is_said_of_times_and_bases_costs_blocks_and_no_more(change):
    said = (MessageKind.CLICKS, MessageKind.BASES, MessageKind.BOB_BASES, MessageKind.TEST_BITS)
    attack = Once(change, said)
    with tagged(tamper=attack) as pair:
        pair.until(lambda: not attack.left, "every kind is attacked")
        last = max(attack.attacked.values())
        pair.until(
            lambda: all(max(s.available(), default=0) > last for s in pair.sites.values()),
            "a block after the last attack",
        )

    agreed = require_equal_keys(pair)
    for kind, block in attack.attacked.items():
        assert block not in agreed, f"{kind.name} passed unnoticed"
        assert block in pair.a.reasons()
        assert block in pair.b.reasons()
    assert pair.errors() == [None, None]


def test_no_outcome_is_said_before_both_ends_are_fixed_and_none_of_the_key_basis_ever():
    """CLICKS and BASES do not change when every detector is swapped for its basis' other one."""
    from qkd_core.photons.coincidences import events_of, match_bob

    bodies = []
    for swap in (0, 1):
        tags = Tags(Side.B).tags(1)
        swapped = Detections(1, tags.time_ps, tags.detector ^ np.uint8(swap), tags.provenance)
        events = events_of(swapped, USUAL.settings, bytes)
        bodies.append(Heard(events.time_ps.size))
        outcomes = match_bob(events, bodies[-1], USUAL.settings)
        assert outcomes.n_key > 0
    assert bodies[0].said == bodies[1].said


class Heard:
    """Alice, who takes every second event for a coincidence, always in the key basis."""

    def __init__(self, n_events):
        mask = np.zeros(n_events, np.uint8)
        mask[::2] = 1
        n = int(mask.sum())
        self.bases = np.packbits(mask, bitorder="little").tobytes() + bytes((n + 7) // 8)
        self.said = []

    def send_tagged(self, kind, body):
        self.said.append((kind, bytes(body)))

    send = send_tagged

    def receive_tagged(self, _kind):
        return self.bases
