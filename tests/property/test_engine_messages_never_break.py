"""Whatever an engine is told in JSON or text, reading it ends in a noun or a named error."""

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.channel.conversation import Conversation
from keyferry.channel.frames import Frame, Header, Trailer
from keyferry.engine import plan_message, settling
from keyferry.engine.greeting import VERSION, greet
from qkd_core.errors import ChannelError, PeerAborted
from qkd_core.types.authentication import Lane, MessageKind, PadName
from qkd_core.types.ids import BlockId, LinkId, Provenance, Side
from qkd_core.types.keys import BlockState
from qkd_core.types.plans import (
    DecoyPlan,
    DecoySettings,
    Interval,
    PairPlan,
    PairSettings,
    SecurityPolicy,
)
from qkd_core.types.reconciliation import Method, Reconciliation
from qkd_core.types.vendor import VendorPlan, VendorSettings

sys.path.insert(0, str(Path(__file__).parent))
from altered_bodies import JSON, Saying, altered, altered_json, refused

sys.path.pop(0)

COMMON = {
    "block_id": BlockId(4),
    "link_id": LinkId("a-b"),
    "policy": SecurityPolicy(eps_sec=1e-9, eps_cor=1e-12, abort_rate=0.01),
    "reconciliation": Reconciliation(method=Method.LDPC, variant="any", frame_bits=1024),
    "qber_expected": 0.02,
    "leak_ec_max": 400,
    "n_secret": 128,
    "segment_pads": 0,
    "provenance": Provenance.SIMULATED,
    "config_digest": "00" * 32,
}
COUNTS = tuple(Interval(low=n, high=2 * n) for n in (1000, 100, 10))
DECOY = DecoyPlan(
    **COMMON,
    theorem="lim2014",
    settings=DecoySettings(
        clock_hz=1e9,
        n_pulses=10**6,
        intensities=(0.35, 0.055, 0.0002),
        probabilities=(0.5, 0.3, 0.2),
        p_key_basis=0.8,
    ),
    key_counts=COUNTS,
    test_counts=COUNTS,
    test_errors_max=(10, 5, 2),
)
ONE_DECOY = replace(
    DECOY,
    theorem="decoy1-exact",
    settings=replace(DECOY.settings, intensities=(0.38, 0.083), probabilities=(0.04, 0.96)),
    key_counts=COUNTS[:2],
    test_counts=COUNTS[:2],
    test_errors_max=(10, 5),
)
PAIRS = PairPlan(
    **COMMON,
    theorem="bbm92",
    settings=PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16),
    key_count=Interval(low=900, high=1000),
    test_count_min=100,
    test_errors_max=5,
)
VENDOR = VendorPlan(
    **COMMON,
    theorem="vendor-asserted",
    settings=VendorSettings(
        vendor="any", master_sae="a", slave_sae="b", keys_per_block=40, key_bits=256
    ),
)
PLANS = {"two decoys": DECOY, "one decoy": ONE_DECOY, "pairs": PAIRS, "vendor": VENDOR}
TERMS = SimpleNamespace(link_id="a-b", config_digest="00" * 32)
AGREED = {"version": VERSION, "link_id": "a-b", "config_digest": "00" * 32}
HELLO = AGREED | {"blocks_in_flight": 3}
TOLD = settling.Told((BlockId(8), BlockId(9)), BlockId(12), ((1, 5), (7, 7)))
MINE = (BlockId(8), BlockId(10))
STATES = {"8": "pending", "10": "destroyed", "lost": {"3": "destroyed"}}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@given(data=st.data())
def test_an_altered_plan_is_refused_or_it_is_the_plan_that_it_says(plan, data):
    body = data.draw(altered_json(asdict(plan)))
    found = []
    if not refused(lambda: found.append(plan_message.decode(body)), ChannelError):
        [decoded] = found
        assert plan_message.decode(plan_message.encode(decoded)) == decoded


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_comes_back_as_it_was(plan):
    assert plan_message.decode(plan_message.encode(plan)) == plan


@pytest.mark.parametrize("name", ["key_counts", "test_counts", "test_errors_max"])
@pytest.mark.parametrize("plan", [DECOY, ONE_DECOY], ids=["two decoys", "one decoy"])
def test_a_plan_with_thresholds_of_more_or_fewer_intensities_is_refused(plan, name):
    told = asdict(plan)
    for counts in (told[name][:-1], told[name] + told[name][:1], told[name] * 9, []):
        with pytest.raises(ChannelError, match="malformed plan"):
            plan_message.decode(json.dumps(told | {name: counts}).encode())


@given(st.binary(max_size=200))
def test_a_random_plan_is_refused(data):
    with pytest.raises(ChannelError, match="malformed plan"):
        plan_message.decode(data)


@given(JSON)
def test_a_plan_of_the_wrong_shape_is_refused(told):
    with pytest.raises(ChannelError, match="malformed plan"):
        plan_message.decode(json.dumps(told).encode())


class HelloSaid:
    """A transport whose peer greets with this body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def send(self, frame: Frame) -> None:
        pass

    def receive(self, timeout_s: float) -> Frame:
        header = Header(MessageKind.HELLO, 0, BlockId(0), BlockId(0), len(self._body))
        return Frame(header, self._body, None)


@given(altered_json(HELLO))
def test_an_altered_hello_is_refused_unless_it_says_the_same(body):
    line = SimpleNamespace(transport=HelloSaid(body), timeout_s=1.0)

    if not refused(lambda: greet(line, TERMS), ChannelError):
        told = json.loads(body)
        assert told.items() >= AGREED.items()
        assert told["blocks_in_flight"] >= 1


@given(altered_json(TOLD._asdict()), st.sampled_from(Side))
def test_what_a_peer_tells_of_its_blocks_is_within_the_limits_or_refused(body, side):
    found = []

    def exchange():
        found.append(settling._exchange_blocks(Saying({MessageKind.SETTLE: body}), side, TOLD))

    if not refused(exchange, ChannelError):
        [told] = found
        numbers = [*told.pending, told.newest, *(end for run in told.unspent for end in run)]
        assert all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
        assert sum(last - first + 1 for first, last in told.unspent) <= settling.UNSPENT_LIMIT


@given(altered_json(STATES), st.sampled_from(Side))
def test_what_a_peer_tells_of_states_is_complete_or_refused(body, side):
    found = []
    said = Saying({MessageKind.STATES: body})

    def exchange():
        found.append(settling._exchange_states(said, side, ({}, {}), MINE))

    if not refused(exchange, ChannelError):
        [(states, lost)] = found
        assert states.keys() == set(MINE)
        assert all(isinstance(state, BlockState) for state in states.values())
        assert set(lost.values()) <= set(settling.GONE)


@given(altered(b"NotAccepted\nthe signal count of the key basis is 0, the limit is 1"))
def test_a_peer_that_aborts_is_heard_whatever_its_reason_looks_like(body):
    name = PadName(Side.A, Lane.POOL, BlockId(0), 1)
    header = Header(MessageKind.ABORT, 1, BlockId(1), BlockId(0), len(body))
    letter = SimpleNamespace(frame=Frame(header, body, Trailer(name, None, bytes(16))))
    line = SimpleNamespace(
        mail=SimpleNamespace(
            open=lambda block: None, next=lambda *_: letter, turn=lambda letter: nullcontext()
        ),
        authenticator=SimpleNamespace(side=Side.B, check=lambda *_: None),
        link_id="a-b",
        timeout_s=1.0,
        verified=None,
    )

    with pytest.raises(PeerAborted):
        Conversation(line, BlockId(1)).receive(MessageKind.SEED)
