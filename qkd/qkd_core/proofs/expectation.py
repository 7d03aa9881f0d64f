"""What a link model predicts for a block, within which limits, and how a block corrects it."""

from dataclasses import dataclass
from math import ceil, floor, log, sqrt

from qkd_core.types.blocks import Tallies
from qkd_core.types.plans import DecoySettings, Interval, LinkModel

Triple = tuple[float, float, float]

N_TESTS = 16  # both ends of six counts, three error counts, the leak: they share the abort rate
MODEL_VARIANCE = 1.2  # the block's own, and that of a model that `learn` keeps up to date
KEEP = 2.0  # weight of what was believed, in blocks
KEEP_CLICKS_MIN = 300.0  # the belief is worth at least so many clicks: rare ones move it slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Mean counts of one block, per intensity."""

    key: Triple
    test: Triple
    test_errors: Triple
    qber: float  # of the key basis, over all intensities


def expected(settings: DecoySettings, model: LinkModel) -> Expected:
    """The mean counts of ``settings.n_pulses`` pulses over a link like ``model``."""
    p_key = settings.p_key_basis
    clicks = [
        settings.n_pulses * p * gain
        for p, gain in zip(settings.probabilities, model.gain, strict=True)
    ]
    key = _triple([p_key**2 * n for n in clicks])
    test = _triple([(1 - p_key) ** 2 * n for n in clicks])
    errors = _triple([n * qber for n, qber in zip(test, model.qber, strict=True)])
    key_errors = sum(n * qber for n, qber in zip(key, model.qber, strict=True))
    return Expected(
        key=key, test=test, test_errors=errors, qber=key_errors / sum(key) if sum(key) else 0.0
    )


def limits(mean: float, abort_rate: float) -> Interval:
    """The counts that are accepted where ``mean`` is expected.

    A count of independent events with this mean falls below, or above, with at most
    ``abort_rate / N_TESTS`` each; the variance is widened for the model's own uncertainty.
    Source: the Chernoff bounds, exp(-t^2 / 2 m) below and exp(-t^2 / (2 m + 2 t / 3)) above.
    """
    weight = log(N_TESTS / abort_rate)
    spread = sqrt(2 * MODEL_VARIANCE * mean * weight)
    return Interval(low=max(0, floor(mean - spread)), high=ceil(mean + spread + 2 * weight / 3))


def learn(model: LinkModel, tallies: Tallies, settings: DecoySettings) -> LinkModel:
    """The model after a block: what was believed, moved towards what was seen.

    The belief weighs as much as `KEEP` blocks, and at least `KEEP_CLICKS_MIN` clicks, so that the
    few clicks of the near vacuum do not throw the model about. Error rates come from the test
    basis. Use only for later blocks, whatever became of this one.
    """
    p_key = settings.p_key_basis
    gain, qber = [], []
    for k in range(3):
        matched = settings.n_pulses * settings.probabilities[k] * (p_key**2 + (1 - p_key) ** 2)
        clicks = tallies.key_counts[k] + tallies.test_counts[k]
        belief = max(KEEP * clicks, KEEP_CLICKS_MIN)
        believed_pulses = belief / model.gain[k] if model.gain[k] > 0 else KEEP * matched
        gain.append((clicks + model.gain[k] * believed_pulses) / (matched + believed_pulses))
        tested = tallies.test_counts[k]
        belief = max(KEEP * tested, KEEP_CLICKS_MIN)
        qber.append((tallies.test_errors[k] + model.qber[k] * belief) / (tested + belief))
    return LinkModel(gain=_triple(gain), qber=_triple(qber))


def _triple(values: list[float]) -> Triple:
    signal, decoy, vacuum = values
    return signal, decoy, vacuum
