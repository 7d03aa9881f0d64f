"""Two ends, two threads, a loopback channel, and a small simulator of clicks."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from queue import Empty, Queue
from threading import Thread

import numpy as np
import pytest

from qkd_core.errors import AuthenticationFailed, ChannelError, PeerAborted, QkdError
from qkd_core.photons.alignment import align
from qkd_core.photons.distil import distil_alice, distil_bob
from qkd_core.photons.reconciliation.stage import disclosed_expected
from qkd_core.photons.sifting import sift_alice, sift_bob
from qkd_core.proofs.plan import PlanRequest, plan_block
from qkd_core.proofs.terms import Terms
from qkd_core.types.authentication import MessageKind
from qkd_core.types.blocks import Detections
from qkd_core.types.ids import BlockId, LinkId, Provenance
from qkd_core.types.plans import (
    BlockPlan,
    DecoySettings,
    Interval,
    LinkModel,
    PairPlan,
    PairSettings,
    SecurityPolicy,
)
from qkd_core.types.reconciliation import Method, Reconciliation

TIMEOUT_S = 20.0
PERIOD_PS = 1000


class LoopbackEnd:
    """A ClassicalChannel without pads; a tag over the transcript is the hash of the transcript.

    ``tamper`` changes the bodies that arrive here, as an Eve between the ends would.
    """

    def __init__(self, inbox: Queue, outbox: Queue, tamper) -> None:
        self.inbox, self.outbox, self.tamper = inbox, outbox, tamper
        self.transcript = sha256()
        self.sent: list[tuple[MessageKind, bytes]] = []

    def send(self, kind, body):
        body = bytes(body)  # the sender's buffer is its own again
        self._note(kind, body)
        self.sent.append((kind, body))
        self.outbox.put((kind, body, b""))

    def receive(self, kind):
        body, _ = self._next(kind)
        self._note(kind, body)
        return body

    def send_tagged(self, kind, body, *, transcript=False):
        self.sent.append((kind, body))
        self.outbox.put((kind, body, self.transcript.digest() if transcript else b""))

    def receive_tagged(self, kind, *, transcript=False):
        body, tag = self._next(kind)
        if tag != (self.transcript.digest() if transcript else b""):
            raise AuthenticationFailed(f"{kind.name}: another transcript")
        return body

    def abort(self):
        self.outbox.put((MessageKind.ABORT, b"", b""))

    def _next(self, kind):
        try:
            got, body, tag = self.inbox.get(timeout=TIMEOUT_S)
        except Empty as error:
            raise ChannelError("silence") from error
        if got is MessageKind.ABORT:
            raise PeerAborted("the peer gave up")
        if got is not kind:
            raise ChannelError(f"{got.name} instead of {kind.name}")
        return self.tamper(kind, body), tag

    def _note(self, kind, body):
        self.transcript.update(bytes([kind]) + len(body).to_bytes(8, "little") + body)


@dataclass
class Outcome:
    """What came of each end: a result or the error that ended it, and what was sent."""

    alice: object
    bob: object
    sent: dict[str, list[tuple[MessageKind, bytes]]] = field(repr=False)


def unchanged(_kind, body):
    return body


@pytest.fixture
def run_both() -> Callable[..., Outcome]:
    """Run ``alice(channel)`` and ``bob(channel)`` in two threads."""

    def run(alice, bob, tamper_at_alice=unchanged, tamper_at_bob=unchanged) -> Outcome:
        to_alice, to_bob, results = Queue(), Queue(), {}
        ends = {
            "alice": (alice, LoopbackEnd(to_alice, to_bob, tamper_at_alice)),
            "bob": (bob, LoopbackEnd(to_bob, to_alice, tamper_at_bob)),
        }

        def work(name):
            side, channel = ends[name]
            try:
                results[name] = side(channel)
            except QkdError as error:
                results[name] = error
                channel.abort()
            except BaseException as error:  # anything else is a bug that the test must see
                results[name] = error
                channel.abort()
                raise

        threads = [Thread(target=work, args=(name,)) for name in ends]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent = {name: channel.sent for name, (_, channel) in ends.items()}
        return Outcome(results["alice"], results["bob"], sent)

    return run


@dataclass(frozen=True)
class Clicks:
    """Both ends' view of the same simulated clicks; ``alice`` as AliceDevice.settings gives it."""

    slot: np.ndarray
    alice: np.ndarray = field(repr=False)
    detections: Detections = field(repr=False)

    def settings_of(self, slots: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(self.slot, slots), max(self.slot.size - 1, 0))
        return self.alice[at] if self.slot.size else np.zeros(0, np.uint8)


@pytest.fixture
def simulate() -> Callable[..., Clicks]:
    """Draw the clicks of one block: per intensity, bases, bits, and errors in equal bases."""

    def draw(settings: DecoySettings, model: LinkModel, seed: int, block_id=1) -> Clicks:
        rng = np.random.default_rng(seed)
        means = [
            settings.n_pulses * p * gain
            for p, gain in zip(settings.probabilities, model.gain, strict=True)
        ]
        intensity = np.repeat(np.arange(len(means), dtype=np.uint8), rng.poisson(means))
        slot = np.sort(rng.integers(0, settings.n_pulses, intensity.size))
        slot = slot[np.diff(slot, prepend=-1) > 0]  # np.unique takes a hundred times as long
        n = slot.size
        intensity = rng.permutation(intensity)[:n]
        basis = [(rng.random(n) > settings.p_key_basis).astype(np.uint8) for _ in range(2)]
        bit = rng.integers(0, 2, n, dtype=np.uint8)
        wrong = (rng.random(n) < np.array(model.qber)[intensity]).astype(np.uint8)
        theirs = np.where(basis[0] == basis[1], bit ^ wrong, rng.integers(0, 2, n, dtype=np.uint8))
        jitter = np.rint(rng.normal(430, 40, n)).astype(np.int64)
        return Clicks(
            slot=slot,
            alice=bit | basis[0] << np.uint8(1) | intensity << np.uint8(2),
            detections=Detections(
                block_id=BlockId(block_id),
                time_ps=slot * PERIOD_PS + jitter,
                detector=theirs | basis[1] << np.uint8(1),
                provenance=Provenance.SIMULATED,
            ),
        )

    return draw


@pytest.fixture
def clicks_of(simulate) -> Callable[..., Clicks]:
    """One block of the default link, or of another model."""
    return lambda seed, model=MODEL: simulate(SETTINGS, model, seed)


# 25 km with saturated detectors, about 4.9e5 clicks; most pulses are dim, see the README of qkd
SETTINGS = DecoySettings(
    clock_hz=1e9,
    n_pulses=10**9,
    intensities=(0.35, 0.055, 0.0002),
    probabilities=(0.016, 0.664, 0.32),
    p_key_basis=0.8,
)
CASCADE = Reconciliation(method=Method.CASCADE, variant="fast4", frame_bits=1 << 16)
MODEL = LinkModel(gain=(3.33e-3, 5.28e-4, 2.3e-6), qber=(0.015, 0.0153, 0.095))
POLICY = SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01)


@pytest.fixture(scope="session")
def settings() -> DecoySettings:
    return SETTINGS


@pytest.fixture(scope="session")
def model() -> LinkModel:
    return MODEL


@pytest.fixture(scope="session")
def plan() -> BlockPlan:
    terms = Terms(
        link_id=LinkId("a-b"),
        settings=SETTINGS,
        policy=POLICY,
        segment_pads=0,
        config_digest="00" * 32,
    )
    return plan_block(
        PlanRequest(
            terms=terms,
            model=MODEL,
            block_id=BlockId(1),
            provenance=Provenance.SIMULATED,
            reconciliation=CASCADE,
            disclosed_expected=disclosed_expected,
        )
    )


@pytest.fixture
def distil(run_both, plan, entropy) -> Callable[..., Outcome]:
    """From clicks to the secret key; ``kept`` gets the sifted keys of both ends."""

    def run(clicks, plan=plan, plan_of_alice=None, kept=None, **tamper):
        kept = [] if kept is None else kept

        def alice(channel):
            own = plan_of_alice or plan
            sifted = sift_alice(channel, own.block_id, own.settings, clicks.settings_of)
            kept.append(sifted)
            return distil_alice(channel, own, sifted, entropy)

        def bob(channel):
            raw = align(clicks.detections, plan.settings, entropy)
            sifted = sift_bob(raw, channel, plan.settings)
            kept.append(sifted)
            return distil_bob(channel, plan, sifted, entropy)

        return run_both(alice, bob, **tamper)

    return run


@pytest.fixture
def entropy() -> Callable[[int], bytes]:
    return os.urandom


@pytest.fixture(scope="session")
def plan_for() -> Callable[[Reconciliation, int, float], PairPlan]:
    """A plan of pairs with room for four announced bits of each bit; without a length."""
    return _plan_for


def _plan_for(how: Reconciliation, n_bits: int, qber: float) -> PairPlan:
    return PairPlan(
        block_id=BlockId(1),
        link_id=LinkId("a-b"),
        theorem="bbm92",
        policy=SecurityPolicy(eps_sec=1e-9, eps_cor=1e-15, abort_rate=0.01),
        reconciliation=how,
        qber_expected=qber,
        leak_ec_max=4 * n_bits,
        n_secret=0,
        segment_pads=0,
        provenance=Provenance.SIMULATED,
        config_digest="00" * 32,
        settings=PairSettings(link_s=1.0, window_ps=1000, hold_off_ps=50_000, resolution_ps=16),
        key_count=Interval(low=1, high=n_bits),
        test_count_min=1,
        test_errors_max=0,
    )
