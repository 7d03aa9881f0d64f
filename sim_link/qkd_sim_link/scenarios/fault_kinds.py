"""The faults that a link can have, by name: parameters, where they act, what a site then sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qkd_core.types.settings_table import SettingsTable

Value = float | str
LONG_S = 1e9  # nothing is told to begin later, or to last longer: 32 years
ALL = "all"
DETECTORS = ("0", "1", "2", "3")


class Acts(StrEnum):
    """Where a fault may act: a kind of link, or the line on which the sites talk."""

    PULSES = "pulses"
    PAIRS = "pairs"
    REPEATERS = "repeaters"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter from ``low`` to ``high``; ``default`` None: it must be told."""

    low: float
    high: float
    means: str
    default: float | None = None

    def read(self, table: SettingsTable, key: str) -> Value:
        default = () if self.default is None else (self.default,)
        return table.number(key, self.low, self.high, *default)

    def told(self) -> str:
        default = "" if self.default is None else f", {self.default:g} if not told"
        return f"{self.low:g} to {self.high:g}{default}: {self.means}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of these words; the first one if it is not told."""

    words: tuple[str, ...]
    means: str

    def read(self, table: SettingsTable, key: str) -> Value:
        return table.choice(key, self.words, self.words[0])

    def told(self) -> str:
        return f"{', '.join(self.words)}: {self.means}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault.

    failure  the failure mode of the mission that it makes: F1 to F7
    expect   what a site sees of it
    bound    what it can do at most, so that a sampler may thin by it
    """

    failure: str
    acts: frozenset[Acts]
    expect: str
    bound: str
    parameters: Mapping[str, Number | Choice] = field(default_factory=dict)


_ENDS = Choice(("b", "a"), "the site; of pulses the detectors are all at b")
_DETECTOR = Choice((ALL, *DETECTORS), "0, 1: of that bit; of pairs basis << 1 | bit")
_LIGHT = frozenset({Acts.PULSES, Acts.PAIRS, Acts.REPEATERS})
_LINE = frozenset({Acts.LINE})
_DB = Number(0, 100, "loss beside that of the scenario")

KINDS: Mapping[str, Kind] = {
    "loss-step": Kind(
        failure="F1",
        acts=_LIGHT,
        parameters={"db": _DB, "end": _ENDS},
        bound="transmittance: at most the link's own",
        expect="clicks of all detectors fall together by the loss, error rates stay flat; with"
        " much loss dark counts are left and errors rise in both bases",
    ),
    "loss-ramp": Kind(
        failure="F1",
        acts=_LIGHT,
        parameters={
            "db": _DB,
            "ramp_s": Number(1e-3, LONG_S, "in which the loss is reached, linear in dB"),
            "end": _ENDS,
        },
        bound="transmittance: at most the link's own",
        expect="as loss-step, but from block to block: clicks fall along a straight line in dB",
    ),
    "misalignment": Kind(
        failure="F1",
        acts=_LIGHT,
        parameters={
            "key_error": Number(0, 0.5, "photons of the key basis that flip, more than do", 0.0),
            "test_error": Number(0, 0.5, "the same in the test basis", 0.0),
        },
        bound="misalignment: at most 1/2 where the link's own is",
        expect="the error rate of the basis rises, of the other one not; clicks stay as they are",
    ),
    "clock-step": Kind(
        failure="F2",
        acts=_LIGHT,
        parameters={"step_ns": Number(-1e7, 1e7, "Bob's clock jumps ahead by this")},
        bound="none: no click comes or goes",
        expect="pairs: the offset of the peer's clock in the status jumps, singles stay flat."
        " Pulses: a step of whole periods makes half of all bits wrong, one of parts of a period"
        " changes the arrival times of all detectors",
    ),
    "clock-drift": Kind(
        failure="F2",
        acts=_LIGHT,
        parameters={"ppm": Number(-1000, 1000, "of the rate of Bob's clock, beside its own")},
        bound="none: no click comes or goes",
        expect="pairs: the drift of the peer's clock in the status changes by this. Pulses, whose"
        " clocks are one by a wire: half of all bits wrong once the error is half a period",
    ),
    "clock-lost": Kind(
        failure="F2",
        acts=_LIGHT,
        parameters={
            "wander": Number(0, 1e-3, "of the rate in one second, without reference, at random"),
            "holdover_s": Number(0, LONG_S, "until Bob's device gives its clock up", 600.0),
        },
        bound="none: no click comes or goes",
        expect="Bob's device says holdover and raises an alarm; after holdover_s it says unlocked,"
        " and blocks end by LinkDown. Pairs until then: the drift of the peer's clock walks from"
        " block to block; past what can be followed, coincidences fall with singles flat. Pulses:"
        " as clock-drift",
    ),
    "dark-rise": Kind(
        failure="F3",
        acts=_LIGHT,
        parameters={
            "factor": Number(1, 1e5, "on the mean number of dark counts"),
            "detector": _DETECTOR,
            "end": _ENDS,
        },
        bound="dark: factor times the link's own mean number",
        expect="vacuum gain and error rates of both bases rise, and the weak decoys' most; of one"
        " detector: its clicks alone. Repeaters, whose stations then have them as well: false"
        " heralds, and errors in both bases",
    ),
    "cryostat-burst": Kind(
        failure="F4",
        acts=_LIGHT,
        parameters={
            "rate_hz": Number(0, 1000, "bursts in a second, at random times"),
            "length_ms": Number(0.01, 1000, "of each"),
            "efficiency_factor": Number(0, 1, "on the efficiency, during one", 1.0),
            "dark_factor": Number(1, 1e5, "on the mean number of dark counts, during one", 1.0),
            "end": _ENDS,
        },
        bound="dark: dark_factor times the link's own mean number",
        expect="counts vary more than Poisson's (Fano factor above 1), all detectors together",
    ),
    "detector-latch": Kind(
        failure="F4",
        acts=_LIGHT,
        parameters={"detector": Choice(DETECTORS, _DETECTOR.means), "end": _ENDS},
        bound="no more clicks than the link's own",
        expect="one detector has no clicks at all until it is reset. The bits are then nearly all"
        " the other one, which no error rate shows: the monitors of double clicks and of the"
        " self-test end the blocks",
    ),
    "blinding": Kind(
        failure="F4",
        acts=_LIGHT,
        parameters={"end": _ENDS},
        bound="no more clicks than the link's own",
        expect="bright light holds the detectors below breakdown: no clicks, and none of the"
        " self-test's shots is seen",
    ),
    "ageing": Kind(
        failure="F6",
        acts=_LIGHT,
        parameters={
            "db_per_day": Number(0, 1e6, "of the detectors' efficiency"),
            "detector": _DETECTOR,
            "end": _ENDS,
        },
        bound="efficiency: at most the link's own",
        expect="clicks fall slowly at a constant slope in dB; of one detector: against the other's",
    ),
    "repeater-desync": Kind(
        failure="F7",
        acts=frozenset({Acts.REPEATERS}),
        parameters={
            "apart_ps": Number(0, 1e9, "photons meet so far apart, beside the scenario's"),
            "ps_per_s": Number(0, 1e9, "and further apart by this in a second", 0.0),
        },
        bound="no more pairs than the chain's own",
        expect="errors of the pairs rise while heralds and clicks stay as they are",
    ),
    "message-delay": Kind(
        failure="F5",
        acts=_LINE,
        parameters={"delay_ms": Number(0, 60_000, "in each direction")},
        bound="nothing is lost",
        expect="blocks take longer by the round trips in them, of Cascade some hundred; above the"
        " time-out of a message blocks end by a channel error at both sites",
    ),
    "message-loss": Kind(
        failure="F5",
        acts=_LINE,
        parameters={"probability": Number(0, 1, "of each piece, each time it is sent")},
        bound="nothing is lost for good: TCP sends again, or the connection breaks",
        expect="stalls of 200 ms, 600 ms and more, and blocks that take so much longer; where a"
        " piece is lost seven times running, the connection breaks and the engines connect anew",
    ),
    "partition": Kind(
        failure="F5",
        acts=_LINE,
        parameters={
            "direction": Choice(("both", "a-to-b", "b-to-a"), "what does not arrive any more")
        },
        bound="nothing passes",
        expect="no key is added at either site; after 15 s connections break, and blocks end by a"
        " channel error at both. When it is over both go on from the same block",
    ),
}
