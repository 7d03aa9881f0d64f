"""LDPC reconciliation between two ends: what is corrected, told, counted, and refused."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from qkd_core.errors import ChannelError, ConfigError, PeerAborted, ReconciliationFailed
from qkd_core.photons.reconciliation import ldpc, ldpc_ladder
from qkd_core.photons.reconciliation.ldpc_frames import (
    LEAST_DEGREE,
    VARIANTS,
    cut,
    inefficiency,
)
from qkd_core.photons.reconciliation.ldpc_ladder import LANES, code, mothers
from qkd_core.proofs.entropy import binary_entropy
from qkd_core.types.authentication import MessageKind
from qkd_core.types.bits import pack
from qkd_core.types.blocks import PairTallies, ReconciledKey, SiftedKey
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import Interval, PairPlan, PairSettings, SecurityPolicy
from qkd_core.types.reconciliation import Disclosed, Method, Reconciliation

SINGLE = Reconciliation(method=Method.LDPC, variant="single", frame_bits=1 << 20)
BLIND = replace(SINGLE, variant="blind")
SYNDROME, VERDICTS, REVEALED = MessageKind.SYNDROME, MessageKind.VERDICTS, MessageKind.REVEALED


def plan_for(how, n_bits, qber, leak_ec_max=None) -> PairPlan:
    """A plan of which only what error correction reads has a meaning."""
    return PairPlan(
        block_id=BlockId(1),
        link_id=LinkId("a-b"),
        theorem="bbm92",
        policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
        reconciliation=how,
        qber_expected=qber,
        leak_ec_max=n_bits if leak_ec_max is None else leak_ec_max,
        n_secret=0,
        segment_pads=0,
        provenance=Provenance.SIMULATED,
        config_digest="00" * 32,
        settings=PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16),
        key_count=Interval(low=1, high=max(1, n_bits)),
        test_count_min=1,
        test_errors_max=0,
    )


def two_keys(n_bits, qber, seed=1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, n_bits, np.uint8)
    return pack(bits), pack(bits ^ (rng.random(n_bits) < qber).astype(np.uint8))


@pytest.fixture
def correct(run_both, entropy):
    """Both ends on two keys: the outcome of `run_both`."""

    def run(keys, n_bits, plan, **tamper):
        tallies = PairTallies(n_key=n_bits, n_test=0, test_errors=0)
        sifted = [SiftedKey(BlockId(1), key, n_bits, tallies) for key in keys]
        return run_both(
            lambda channel: ldpc.reconcile_alice(sifted[0], channel, plan, entropy),
            lambda channel: ldpc.reconcile_bob(sifted[1], channel, plan, entropy),
            **tamper,
        )

    return run


def n_errors(keys) -> int:
    return int(np.bitwise_count(keys[0] ^ keys[1]).sum())


def bytes_of(sent, kind) -> int:
    return sum(len(body) for each, body in sent if each is kind)


@pytest.mark.parametrize("how", [SINGLE, BLIND], ids=lambda how: how.variant)
@pytest.mark.parametrize("n_bits", [1, 63, 64, 65, 4097, 20_001, 150_000, 1_000_003])
def test_both_ends_hold_alices_bits_at_any_length(correct, how, n_bits):
    keys = two_keys(n_bits, 0.02, n_bits)

    outcome = correct(keys, n_bits, plan_for(how, n_bits, 0.02))

    for end in (outcome.alice, outcome.bob):
        np.testing.assert_array_equal(end.bits, keys[0])
        assert end.n_errors == n_errors(keys)
    assert outcome.alice.disclosed == outcome.bob.disclosed
    assert outcome.alice.effort.bytes_sent == outcome.bob.effort.bytes_received


def test_an_empty_block_needs_no_message(correct):
    outcome = correct(two_keys(0, 0.02), 0, plan_for(SINGLE, 0, 0.02))

    assert outcome.bob.n_bits == 0
    assert not outcome.sent["alice"] and not outcome.sent["bob"]


@pytest.mark.parametrize("qber", [0.001, 0.005, 0.01, 0.03, 0.06, 0.11, 0.16])
def test_every_error_rate_has_a_code_that_corrects_it(correct, qber):
    keys = two_keys(130_000, qber)

    outcome = correct(keys, 130_000, plan_for(BLIND, 130_000, qber))

    np.testing.assert_array_equal(outcome.bob.bits, keys[0])
    if 0.005 <= qber <= 0.11:  # one frame and a short one; failing both: below 1e-3
        assert outcome.bob.disclosed.about_key < 1.6 * 130_000 * binary_entropy(qber)


def test_swapped_roles_share_the_work_and_take_either_ends_bits(correct):
    n_bits, how = 300_000, replace(BLIND, frame_bits=1 << 16, roles_swap=True)
    keys = two_keys(n_bits, 0.03)
    plan = plan_for(how, n_bits, 0.03)

    outcome = correct(keys, n_bits, plan)

    np.testing.assert_array_equal(outcome.alice.bits, outcome.bob.bits)
    for k, frame in enumerate(cut(n_bits, 0.03, how)):
        np.testing.assert_array_equal(outcome.bob.bits[frame.words], keys[k % 2][frame.words])
    assert outcome.alice.disclosed == outcome.bob.disclosed
    assert outcome.alice.n_errors == outcome.bob.n_errors == n_errors(keys)
    assert bytes_of(outcome.sent["bob"], SYNDROME) > 1000


@pytest.mark.parametrize("how", [SINGLE, BLIND], ids=lambda how: how.variant)
def test_every_bit_that_is_sent_is_counted(correct, how):
    """At twice the planned rate, so that all kinds of messages are needed."""
    n_bits = 120_000
    outcome = correct(two_keys(n_bits, 0.06), n_bits, plan_for(how, n_bits, 0.03))

    sent, disclosed = outcome.sent["alice"], outcome.bob.disclosed
    assert disclosed.about_key == n_bits  # all was told whole in the end, and counted once
    frames = cut(n_bits, 0.03, how)
    point = 16
    assert bytes_of(sent, SYNDROME) == point + 8 * sum(frame.told_words for frame in frames)
    assert outcome.bob.effort.frames_failed == len(frames)
    verdicts = [body for kind, body in outcome.sent["bob"] if kind is VERDICTS]
    assert disclosed.about_errors == len(verdicts) * (32 + len(frames))
    assert len(verdicts) == VARIANTS[how.variant].rounds + 2


def test_blind_counts_what_is_revealed_and_no_more(correct):
    n_bits = cut(200_000, 0.02, BLIND)[0].n_bits
    (frame,) = cut(n_bits, 0.02, BLIND)
    outcome = correct(two_keys(n_bits, 0.021), n_bits, plan_for(BLIND, n_bits, 0.02))

    revealed = 8 * bytes_of(outcome.sent["alice"], REVEALED)
    assert revealed  # at 2.1 % the first try tells 1.07 n h: no code of this length can do with it
    scheme = frame.scheme
    assert frame.told == scheme.code.n_checks - 64 * scheme.fill.size + 64
    assert outcome.bob.disclosed.about_key == frame.told + revealed


@pytest.mark.parametrize(("how", "qber"), [(SINGLE, 0.0218), (BLIND, 0.0215)])
def test_what_bob_says_follows_from_the_errors_alone(correct, how, qber):
    """Other keys and other fill, the same errors: the same verdicts, some good and some bad."""
    how, n_bits = replace(how, frame_bits=1 << 15), 300_000
    errors = pack((np.random.default_rng(9).random(n_bits) < qber).astype(np.uint8))
    said = []
    for seed in range(3):
        alice, _ = two_keys(n_bits, qber, seed)
        outcome = correct((alice, alice ^ errors), n_bits, plan_for(how, n_bits, 0.02))
        said.append(outcome.sent["bob"])

    assert said[0] == said[1] == said[2]
    first = np.unpackbits(np.frombuffer(said[0][0][1], np.uint8), bitorder="little")
    n_frames = len(cut(n_bits, 0.02, how))
    assert 0 < first[:n_frames].sum() < n_frames


def test_bob_says_nothing_but_verdicts(correct):
    n_bits = 200_000
    outcome = correct(two_keys(n_bits, 0.03), n_bits, plan_for(BLIND, n_bits, 0.03))

    assert {kind for kind, _ in outcome.sent["bob"]} == {VERDICTS}
    n_frames = len(cut(n_bits, 0.03, BLIND))
    assert all(len(body) <= 4 + (n_frames + 7) // 8 for _, body in outcome.sent["bob"])


def test_the_fill_hides_as_many_checks_and_is_fresh(correct):
    n_bits = cut(200_000, 0.02, BLIND)[0].n_bits
    keys, plan = two_keys(n_bits, 0.01), plan_for(BLIND, n_bits, 0.02)
    first, second = (correct(keys, n_bits, plan).sent["alice"][0][1] for _ in range(2))
    scheme = cut(n_bits, 0.02, BLIND)[0].scheme

    assert scheme.fill.size
    assert (scheme.code.degree[scheme.fill * 64 // scheme.code.lanes] >= LEAST_DEGREE).all()
    differing = np.frombuffer(first[16:-8], np.uint8) ^ np.frombuffer(second[16:-8], np.uint8)
    assert differing.any()  # equal with 2^-(64 words of fill)


def test_the_budget_ends_it_before_anything_beyond_is_sent(correct):
    n_bits = 100_000
    plan = plan_for(SINGLE, n_bits, 0.02, leak_ec_max=10_000)
    outcome = correct(two_keys(n_bits, 0.02), n_bits, plan)

    assert isinstance(outcome.alice, ReconciliationFailed)
    assert isinstance(outcome.bob, (ReconciliationFailed, PeerAborted))
    assert not outcome.sent["alice"]


def test_an_error_rate_of_one_half_ends_within_the_budget(correct):
    n_bits = 200_000
    expected = ldpc.disclosed_expected(n_bits, 0.02, BLIND)
    plan = plan_for(BLIND, n_bits, 0.02, leak_ec_max=2 * expected.about_key)
    outcome = correct(two_keys(n_bits, 0.5), n_bits, plan)

    assert isinstance(outcome.alice, (ReconciliationFailed, PeerAborted))
    assert isinstance(outcome.bob, (ReconciliationFailed, PeerAborted))


@pytest.mark.parametrize(
    ("n_bits", "how"),
    [(1_000, SINGLE), (130_000, SINGLE), (900_000, SINGLE), (400_000, BLIND)],
    ids=["short", "single", "long", "blind"],
)
def test_as_much_is_told_as_is_expected(correct, n_bits, how):
    """The keys are fixed; of blind, the mean of three blocks: a step is one in a hundred."""
    expected = ldpc.disclosed_expected(n_bits, 0.02, how)
    told = Disclosed(about_key=0, about_errors=0)
    blocks = 3 if how is BLIND else 1
    for seed in range(blocks):
        outcome = correct(two_keys(n_bits, 0.02, seed), n_bits, plan_for(how, n_bits, 0.02))
        told += outcome.bob.disclosed

    assert told.about_key / blocks == pytest.approx(expected.about_key, rel=0.05)


# what a lying or broken peer may send


def changed(kind, change):
    return lambda got, body: change(body) if got is kind else body


@pytest.mark.parametrize(
    ("at", "kind", "change"),
    [
        ("bob", SYNDROME, lambda body: body[:-1]),
        ("bob", SYNDROME, lambda body: body[:-8]),
        ("bob", SYNDROME, lambda body: body + bytes(8)),
        ("bob", SYNDROME, lambda body: b""),
        ("bob", SYNDROME, lambda body: body[:8]),
        ("bob", REVEALED, lambda body: body[:-8]),
        ("bob", REVEALED, lambda body: b""),
        ("alice", VERDICTS, lambda body: b""),
        ("alice", VERDICTS, lambda body: body + b"\0"),
        ("alice", VERDICTS, lambda body: b"\xff" + body[1:]),
        ("alice", VERDICTS, lambda body: body[:-4] + b"\xff" * 4),
    ],
)
@pytest.mark.parametrize("how", [SINGLE, BLIND], ids=lambda how: how.variant)
def test_malformed_messages_are_refused_with_one_line(correct, how, at, kind, change):
    n_bits = 60_000
    tamper = {f"tamper_at_{at}": changed(kind, change)}
    outcome = correct(two_keys(n_bits, 0.06), n_bits, plan_for(how, n_bits, 0.02), **tamper)

    refused = getattr(outcome, at)
    assert isinstance(refused, ChannelError)
    assert len(str(refused).splitlines()) == 1


def test_a_changed_syndrome_ends_and_only_bits_that_the_hash_confirms_are_taken(correct):
    n_bits = 60_000

    def flip(body):
        return body[:100] + bytes([body[100] ^ 1]) + body[101:]

    keys = two_keys(n_bits, 0.02)
    outcome = correct(keys, n_bits, plan_for(SINGLE, n_bits, 0.02),
                      tamper_at_bob=changed(SYNDROME, flip))  # fmt: skip

    assert isinstance(outcome.bob, ReconciledKey)
    assert outcome.bob.effort.frames_failed == 1  # told whole, so that both are equal again
    np.testing.assert_array_equal(outcome.bob.bits, keys[0])


def test_denied_success_of_a_frame_that_was_told_whole_is_refused(correct):
    n_bits = 60_000
    outcome = correct(
        two_keys(n_bits, 0.06),
        n_bits,
        plan_for(SINGLE, n_bits, 0.02),
        tamper_at_alice=changed(VERDICTS, lambda body: b"\0" + body[1:]),
    )

    assert isinstance(outcome.alice, ChannelError)


def test_bits_beyond_the_end_are_refused(correct):
    tamper = changed(SYNDROME, lambda body: body[:-1] + b"\x80")
    outcome = correct(two_keys(70, 0.02), 70, plan_for(SINGLE, 70, 0.02), tamper_at_bob=tamper)

    assert isinstance(outcome.bob, ChannelError)


def test_an_unknown_variant_is_a_configuration_error():
    with pytest.raises(ConfigError, match="there are single, blind"):
        cut(1000, 0.02, replace(SINGLE, variant="weakest"))


# the ladder


def test_mothers_are_quasi_cyclic_codes_without_a_column_twice_in_a_row():
    assert [mother.rows for mother in mothers()] == sorted({mother.rows for mother in mothers()})
    for mother in mothers():
        assert mother.columns == 1024
        places = mother.row * mother.columns + mother.column
        assert (np.diff(places) > 0).all()
        assert 0 <= mother.shift.min() and mother.shift.max() < 1024
        assert sorted(mother.kept_first) == list(range(mother.columns))


@pytest.mark.parametrize("lanes", [128, 256, 512, 1024])
def test_columns_of_degree_two_close_no_cycle(lanes):
    """A cycle of them is a word of low weight: they form a chain, so none exists."""
    for mother in mothers():
        degree = np.bincount(mother.column, minlength=mother.columns)
        chain = np.flatnonzero(degree == 2)
        assert chain.size < mother.rows
        for column in chain:
            edges = mother.column == column
            np.testing.assert_array_equal(mother.row[edges], [column, column + 1])
            np.testing.assert_array_equal(mother.shift[edges] % lanes, [0, 0])


def test_giving_up_columns_keeps_the_share_of_each_degree():
    for mother in mothers():
        full = np.bincount(code(mother.rows, 1024, 64).degree)
        for columns in (900, 700, 520, 300):
            some = np.bincount(code(mother.rows, columns, 64).degree, minlength=full.size)
            assert np.abs(some / columns - full / 1024).max() < 0.01


def test_an_altered_file_of_codes_is_refused(monkeypatch):
    monkeypatch.setattr(ldpc_ladder, "DIGEST", "00" * 32)
    with pytest.raises(ConfigError, match="SHA-256"):
        mothers.__wrapped__()


def test_frames_cover_a_block_once():
    for n_bits in (1, 64, 5_000, 70_001, 1_234_567, 10_000_000):
        for how in (SINGLE, replace(BLIND, frame_bits=100_000), replace(SINGLE, frame_bits=1)):
            frames = cut(min(n_bits, 100_000) if how.frame_bits == 1 else n_bits, 0.03, how)
            assert frames[0].start == 0
            for frame, following in pairwise(frames):
                assert frame.words.stop == following.start
                assert frame.n_bits % 64 == 0
            assert sum(frame.n_bits for frame in frames) == (
                min(n_bits, 100_000) if how.frame_bits == 1 else n_bits
            )
            assert all(frame.told <= frame.n_bits for frame in frames)
            assert all(frame.n_bits <= max(64, how.frame_bits) for frame in frames)


def test_codes_tell_what_the_table_says():
    for qber in np.linspace(0.005, 0.11, 40):
        for lanes in LANES:
            n = cut(1 << 21, qber, replace(SINGLE, frame_bits=1024 * lanes))[0]
            f = n.scheme.code.n_checks / n.n_bits / binary_entropy(qber)
            assert f == pytest.approx(inefficiency(qber, n.scheme.code.lanes), rel=0.002)
