"""The catalogue of faults, how they are told, and which of them act when."""

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

from qkd_core.errors import ConfigError
from qkd_core.types.ids import Side
from qkd_sim_link.physics.fault_effects import clock_error_ps, strain
from qkd_sim_link.scenarios.fault_kinds import KINDS, Acts, Number
from qkd_sim_link.scenarios.faults import Fault, told_fault
from qkd_sim_link.scenarios.links import load_link
from qkd_sim_link.serving.fault_board import AT_ONCE_MAX, FaultBoard

SHIPPED = Path(__file__).parents[3] / "sim_link" / "qkd_sim_link" / "scenarios"
FAILURES = {"F1", "F2", "F3", "F4", "F5", "F6", "F7"}
LOSS = told_fault("loss-step", {"db": 3.0})
LATCH = told_fault("detector-latch", {"detector": "1"})


def scenario_with(tmp_path: Path, tables: str, name: str = "direct-25km") -> Path:
    file = tmp_path / "faulty.toml"
    file.write_text((SHIPPED / f"{name}.toml").read_text() + tables)
    return file


def an_example(kind: str) -> Fault:
    """Every number that must be told is the highest that may be."""
    numbers = {
        key: what.high
        for key, what in KINDS[kind].parameters.items()
        if isinstance(what, Number) and what.default is None
    }
    return told_fault(kind, numbers)


def test_every_failure_mode_of_a_link_has_a_fault_that_says_what_to_expect():
    assert {kind.failure for kind in KINDS.values()} == FAILURES
    for kind in KINDS.values():
        assert kind.expect
        assert kind.bound
        assert kind.acts


@pytest.mark.parametrize("kind", [kind for kind in KINDS if Acts.PULSES in KINDS[kind].acts])
def test_no_fault_at_its_worst_leaves_its_bounds(kind):
    """A course takes them then, and a sampler may thin by its largest values."""
    at_s = np.linspace(0, 10, 1001)
    found = strain([an_example(kind)], Side.B, at_s, 2, 1)

    for factor in (found.transmittance, found.efficiency):
        assert np.all((factor >= 0) & (factor <= 1))
    assert np.all((found.flips >= 0) & (found.flips <= 0.5))
    assert np.all(found.dark >= 0)
    assert np.all(np.isfinite(clock_error_ps([an_example(kind)], at_s, 1)))


def test_a_scenario_tells_its_faults(tmp_path):
    tables = """
[[faults]]
kind = "loss-step"
db = 3
start_s = 10
duration_s = 5

[[faults]]
kind = "detector-latch"
detector = "1"
start_s = 2.5
"""
    faults = load_link(scenario_with(tmp_path, tables)).faults

    assert [(f.kind, f.start_s, f.end_s, f.number) for f in faults] == [
        ("loss-step", 10.0, 15.0, 1),
        ("detector-latch", 2.5, inf, 2),
    ]
    assert faults[0].values == {"db": 3.0, "end": "b"}


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("start_s = 0", "faults[0].kind is missing: must be one of loss-step"),
        ('kind = "loss-step"\ndb = 3', "faults[0].start_s is missing: must be a number from 0"),
        ('kind = "loss-step"\nstart_s = 0', "faults[0].db is missing: must be a number from 0"),
        ('kind = "loss-step"\nstart_s = 0\ndB = 3', "faults[0].db is missing: must be"),
        ('kind = "loss-step"\nstart_s = 0\ndB = 3', "(is dB meant?)"),
        ('kind = "loss-step"\nstart_s = 0\ndb = -1', "faults[0].db = -1: must be a number from 0"),
        (
            'kind = "loss-step"\nstart_s = 0\ndb = 1\nfor_s = 1',
            "faults[0].for_s = 1: unknown key",
        ),
        (
            'kind = "repeater-desync"\nstart_s = 0\napart_ps = 1',
            "fault repeater-desync: acts on repeaters, this link has pulses",
        ),
        (
            'kind = "detector-latch"\nstart_s = 0\ndetector = "2"',
            "fault detector-latch: detector = '2': of pulses there are 0 and 1",
        ),
        (
            'kind = "blinding"\nstart_s = 0\nend = "a"',
            "fault blinding: end = 'a': the detectors of pulses are at b",
        ),
    ],
)
def test_a_fault_that_cannot_be_is_refused_in_one_line(tmp_path, lines, error):
    file = scenario_with(tmp_path, f"\n[[faults]]\n{lines}\n")

    with pytest.raises(ConfigError) as refused:
        load_link(file)

    assert str(file) in str(refused.value)
    assert error in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "told", "error"),
    [
        ("lss-step", {}, "fault 'lss-step': must be one of loss-step"),
        ("loss-step", {"db": "x"}, "fault loss-step: db = 'x': must be a number from 0 to 100"),
        ("loss-step", {"db": "nan"}, "fault loss-step: db = nan: must be a number"),
        ("loss-step", {"db": 1.0, "dbb": 2}, "fault loss-step: dbb = 2: unknown key"),
        ("loss-step", {"dB": "3"}, "fault loss-step: dB = '3': unknown key (known: db, end)"),
        ("partition", {"direction": "up"}, "direction = 'up': must be one of both"),
    ],
)
def test_a_fault_that_is_told_wrongly_is_refused_in_one_line(kind, told, error):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as refused:
        told_fault(kind, told)
    assert error in str(refused.value)


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_what_is_told_acts_from_the_end_of_the_block_that_is_drawn():
    clock = Hands()
    board = FaultBoard((), clock)
    assert board.drawn(0.0, 2.0) == ()
    clock.s = 0.5

    begins_in_s = board.begin(LOSS, 3.0)

    assert begins_in_s == 1.5
    (found,) = board.drawn(2.0, 4.0)
    assert (found.start_s, found.end_s) == (2.0, 5.0)
    assert board.acting() == ()
    clock.s = 2.5
    assert board.acting() == (found,)
    assert board.waiting() == ((found, -0.5, 2.5),)
    assert board.drawn(4.0, 6.0) == (found,)
    assert board.drawn(6.0, 8.0) == ()


def test_what_is_cleared_ends_with_the_block_that_is_drawn_and_never_begins_again():
    clock = Hands()
    later = replace(LATCH, start_s=100.0)
    board = FaultBoard((later,), clock)
    board.begin(LOSS)
    board.drawn(0.0, 2.0)
    clock.s = 1.0

    assert board.clear("blinding") == (0, 1.0)
    assert board.clear("loss-step") == (1, 1.0)
    assert board.clear("loss-step") == (0, 1.0)

    assert [fault.kind for fault in board.drawn(1.0, 2.0)] == ["loss-step"]
    assert board.drawn(2.0, 4.0) == ()
    assert board.drawn(99.0, 101.0) == (later,)
    board.clear(None)
    assert board.drawn(101.0, 103.0) == ()


def test_a_board_has_an_end():
    board = FaultBoard((), Hands())
    for _ in range(AT_ONCE_MAX):
        board.begin(LOSS)

    with pytest.raises(ConfigError, match=f"{AT_ONCE_MAX} have not ended"):
        board.begin(LOSS)
