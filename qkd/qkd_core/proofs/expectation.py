"""What a link model predicts for a block, within which limits, and how a block corrects it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log, sqrt

from qkd_core.types.blocks import Tallies
from qkd_core.types.plans import Counts, DecoySettings, Interval, LinkModel

N_TESTS = 16  # both ends of six counts, three error counts, the leak: they share the abort rate
MODEL_VARIANCE = 1.2  # the block's own, and that of a model that `learn` keeps up to date
KEEP = 2.0  # weight of what was believed, in blocks
KEEP_CLICKS_MIN = 300.0  # the belief is worth at least so many clicks: rare ones move it slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Mean counts of one block, per intensity."""

    key: tuple[float, ...]
    test: tuple[float, ...]
    test_errors: tuple[float, ...]
    qber: float  # of the key basis, over all intensities
    spread: float = 0.0  # of the link, as `LinkModel` has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What blocks with the same settings have counted, per intensity.

    matched  pulses whose bases are equal, in the mean
    clicks   of these, in both bases
    tested   clicks in the test basis, of which ``errors`` are wrong
    """

    matched: tuple[float, ...]
    clicks: Counts
    tested: Counts
    errors: Counts


def expected(settings: DecoySettings, model: LinkModel) -> Expected:
    """The mean counts of ``settings.n_pulses`` pulses over a link like ``model``."""
    p_key = settings.p_key_basis
    clicks = [
        settings.n_pulses * p * gain
        for p, gain in zip(settings.probabilities, model.gain, strict=True)
    ]
    key = tuple(p_key**2 * n for n in clicks)
    test = tuple((1 - p_key) ** 2 * n for n in clicks)
    errors = tuple(n * qber for n, qber in zip(test, model.qber, strict=True))
    key_errors = sum(n * qber for n, qber in zip(key, model.qber, strict=True))
    return Expected(
        key=key,
        test=test,
        test_errors=errors,
        qber=key_errors / sum(key) if sum(key) else 0.0,
        spread=model.spread,
    )


def limits(mean: float, abort_rate: float, spread: float = 0.0) -> Interval:
    """The counts that are accepted where ``mean`` is expected, of a link with this ``spread``.

    A count of independent events with this mean falls below, or above, with at most
    ``abort_rate / N_TESTS`` each; the variance is widened for the model's own uncertainty, and by
    that of a link that fades, whose block is the sum of many independent times.
    Source: the Chernoff bounds, exp(-t^2 / 2 m) below and exp(-t^2 / (2 m + 2 t / 3)) above.
    """
    weight = log(N_TESTS / abort_rate)
    variance = MODEL_VARIANCE * (mean + (spread * mean) ** 2)
    off = sqrt(2 * variance * weight)
    return Interval(low=max(0, floor(mean - off)), high=ceil(mean + off + 2 * weight / 3))


def counted(tallies: Sequence[Tallies], settings: DecoySettings) -> Counted:
    """What blocks with ``settings`` have counted together."""
    p_key = settings.p_key_basis
    equal = len(tallies) * settings.n_pulses * (p_key**2 + (1 - p_key) ** 2)
    key = _sums([block.key_counts for block in tallies], settings)
    tested = _sums([block.test_counts for block in tallies], settings)
    return Counted(
        matched=tuple(equal * p for p in settings.probabilities),
        clicks=tuple(n + k for n, k in zip(key, tested, strict=True)),
        tested=tested,
        errors=_sums([block.test_errors for block in tallies], settings),
    )


def learn(model: LinkModel, tallies: Tallies, settings: DecoySettings) -> LinkModel:
    """The model after a block: what was believed, moved towards what was seen.

    The belief weighs as much as `KEEP` blocks, and at least `KEEP_CLICKS_MIN` clicks, so that the
    few clicks of the near vacuum do not throw the model about. Error rates come from the test
    basis. Use only for later blocks, whatever became of this one.
    """
    seen = counted((tallies,), settings)
    gain, qber = [], []
    for k, (matched, clicks) in enumerate(zip(seen.matched, seen.clicks, strict=True)):
        belief = max(KEEP * clicks, KEEP_CLICKS_MIN)
        believed_pulses = belief / model.gain[k] if model.gain[k] > 0 else KEEP * matched
        gain.append((clicks + model.gain[k] * believed_pulses) / (matched + believed_pulses))
        tested = seen.tested[k]
        belief = max(KEEP * tested, KEEP_CLICKS_MIN)
        qber.append((seen.errors[k] + model.qber[k] * belief) / (tested + belief))
    return LinkModel(gain=tuple(gain), qber=tuple(qber), spread=model.spread)


def _sums(rows: Sequence[Counts], settings: DecoySettings) -> Counts:
    """Of each intensity over all rows."""
    return tuple(sum(row[k] for row in rows) for k in range(len(settings.intensities)))
