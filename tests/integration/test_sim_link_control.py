"""The control of a link that runs: who may tell it a fault, what it answers, what the sites see."""

import itertools
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
from click.testing import CliRunner

from keyferry.cli import main
from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Side
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob
from qkd_sim_link.scenarios.faults import told_fault
from qkd_sim_link.scenarios.pulses import DEFAULT, Scenario, load
from qkd_sim_link.serving.control_client import ControlClient
from qkd_sim_link.serving.server import Endpoint, Faulty, serve
from qkd_sim_link.tokens import write_token

SCENARIO = load(DEFAULT)
SETTINGS = replace(SCENARIO.source.settings(), n_pulses=5_000_000)  # 5 ms, 1,000 clicks
NUMBERS = map(BlockId, itertools.count(1))
SCALE = 0.05  # a block takes 0.1 s of the wall


class Link:
    """A link in this process, both ends' drivers and its control."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sides = {s: Endpoint(home / f"{s}.sock", home / f"{s}.token") for s in Side}
        self.control = Endpoint(home / "c.sock", home / "c.token")

    def client(self, token: Path | None = None) -> ControlClient:
        return ControlClient(self.control.socket_path, token or self.control.token_path)

    def clicks(self, alice: SimulatedAlice, bob: SimulatedBob) -> int:
        block_id = next(NUMBERS)
        for end in (alice, bob):
            end.arm(block_id, SETTINGS)
        return int(bob.detections(block_id).time_ps.size)

    @contextmanager
    def ends(self) -> Iterator[tuple[SimulatedAlice, SimulatedBob]]:
        a, b = (self.sides[side] for side in Side)
        with (
            SimulatedAlice(a.socket_path, a.token_path, timeout_s=5) as alice,
            SimulatedBob(b.socket_path, b.token_path, timeout_s=5) as bob,
        ):
            yield alice, bob


@contextmanager
def served(home: Path, scenario: Scenario = SCENARIO) -> Iterator[Link]:
    link, stop = Link(home), Event()
    for end in (*link.sides.values(), link.control):
        write_token(end.token_path)
    faulty = Faulty(link.control)
    options = {"time_scale": SCALE, "seed": 3, "stop": stop, "faulty": faulty}
    thread = Thread(target=serve, args=(scenario, link.sides), kwargs=options)
    thread.start()
    try:
        for _ in range(200):
            if link.control.socket_path.exists():
                break
            stop.wait(0.05)
        yield link
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        assert not link.control.socket_path.exists()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    with served(tmp_path) as running:
        yield running


def test_the_ends_see_a_fault_from_the_next_block_on_and_its_end(link):
    with link.ends() as (alice, bob), link.client() as control:
        before = link.clicks(alice, bob)

        said = control.fault("blinding", {})
        assert said == {"begins_in_s": pytest.approx(0.0, abs=0.2)}
        assert link.clicks(alice, bob) == 0
        (acting,) = control.faults()["faults"]
        assert (acting["kind"], acting["ends_in_s"]) == ("blinding", None)

        assert control.clear("blinding")["cleared"] == 1
        assert link.clicks(alice, bob) > before / 2
        assert control.faults()["faults"] == []


def test_a_lost_clock_shows_in_the_health_of_bobs_device_and_ends_blocks_once_it_is_given_up(link):
    with link.ends() as (alice, bob), link.client() as control:
        assert bob.source.health().clock_state == "locked"
        assert link.clicks(alice, bob) > 0

        control.fault("clock-lost", {"wander": 0.0})
        assert link.clicks(alice, bob) > 0
        found = bob.source.health()
        assert (found.clock_state, found.alarms) == ("holdover", ("the clock has no reference",))
        sends = alice.health()
        assert (sends.counts, sends.clock_state, sends.alarms) == ((), "locked", ())

        control.clear("clock-lost")
        control.fault("clock-lost", {"wander": 0.0, "holdover_s": 0.0})
        with pytest.raises(LinkDown, match="the device's clock is unlocked"):
            link.clicks(alice, bob)
        assert bob.source.health().clock_state == "unlocked"

        control.clear("clock-lost")
        assert link.clicks(alice, bob) > 0
        found = bob.source.health()
        assert (found.clock_state, found.alarms) == ("locked", ())


def test_a_fault_that_is_told_within_a_block_waits_for_its_end(link):
    with link.ends() as (alice, bob), link.client() as control:
        block_id = next(NUMBERS)
        for end in (alice, bob):
            end.arm(block_id, SETTINGS)
        said = control.fault("blinding", {}, 0.3)
        assert 0 < said["begins_in_s"] <= SETTINGS.link_s / SCALE
        assert bob.detections(block_id).time_ps.size > 0
        assert link.clicks(alice, bob) == 0


def test_only_its_own_credential_opens_the_control_and_it_opens_nothing_else(link):
    assert stat.S_IMODE(link.control.socket_path.stat().st_mode) == 0o600
    for side in Side:
        with link.client(link.sides[side].token_path) as control, pytest.raises(LinkDown):
            control.faults()
    a = link.sides[Side.A]
    wrong = SimulatedAlice(a.socket_path, link.control.token_path, timeout_s=2)
    with wrong, pytest.raises(LinkDown):
        wrong.arm(next(NUMBERS), SETTINGS)


@pytest.mark.parametrize(
    ("kind", "values", "last_s", "error"),
    [
        ("partition", {}, None, "fault partition: acts on line, this link has pulses"),
        ("repeater-desync", {"apart_ps": 1}, None, "acts on repeaters, this link has pulses"),
        ("detector-latch", {"detector": "3"}, None, "of pulses there are 0 and 1"),
        ("blinding", {}, -1.0, "fault blinding: lasts -1.0 s: above 0"),
    ],
)
def test_what_this_link_cannot_have_is_refused_in_one_line(link, kind, values, last_s, error):
    with link.client() as control, pytest.raises(LinkDown) as refused:
        control.fault(kind, values, last_s)
    assert error in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fault_on_a_line_that_there_is_not_and_a_shared_credential_are_refused(tmp_path):
    partition = replace(told_fault("partition", {}), number=1)
    link = Link(tmp_path)
    for end in link.sides.values():
        write_token(end.token_path)
    with pytest.raises(ConfigError, match="acts on line, this link has pulses"):
        serve(replace(SCENARIO, faults=(partition,)), link.sides, stop=Event())
    shared = Faulty(Endpoint(link.control.socket_path, link.sides[Side.A].token_path))
    with pytest.raises(ConfigError, match="of the control and of a side hold the same bytes"):
        serve(SCENARIO, link.sides, stop=Event(), faulty=shared)


def command(link: Link, *words: str) -> str:
    where = (f"--socket={link.control.socket_path}", f"--credential={link.control.token_path}")
    result = CliRunner().invoke(main, ["link", *words, *where])
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    return result.output


def test_the_command_says_what_to_expect_what_acts_and_what_it_cleared(link):
    said = command(link, "fault", "loss-step", "db=3", "--for", "60")
    assert "loss-step (F1): acts in 0.0 s, for 60 s" in said
    assert "expect: clicks of all detectors fall together" in said

    assert "loss-step db=3 end=b: for" in command(link, "faults", "--acting")
    told = json.loads(command(link, "fault", "clear", "loss-step", "--json"))
    assert told["cleared"] == 1
    assert command(link, "faults", "--acting") == "none\n"
    assert command(link, "fault", "clear") == "0 cleared\n"


def test_the_catalogue_names_every_parameter():
    catalogue = json.loads(CliRunner().invoke(main, ["link", "faults", "--json"]).output)["faults"]
    text = CliRunner().invoke(main, ["link", "faults"]).output

    assert len(catalogue) == 15
    for fault in catalogue:
        assert fault["fault"] in text
        for parameter in fault["parameters"]:
            assert f"    {parameter}: " in text


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("fault", "loss-step", "db"), "fault loss-step: 'db': KEY=VALUE, and each key once"),
        (("fault", "loss-step", "db=1", "db=2"), "fault loss-step: 'db=2': KEY=VALUE"),
        (("fault", "loss-step", "db=500"), "fault loss-step: db = 500.0: must be a number"),
        (("fault", "blinding", "--for", "0"), "--for 0: above 0"),
        (("fault", "clear", "--for", "1"), "--for: does not go with clear"),
        (("fault", "clear", "lss"), "fault 'lss': must be one of"),
        (("fault", "blinding", "--socket", "x"), "--socket, --credential: both or neither"),
        (("fault", "blinding", "--state", "nowhere"), "--state nowhere: no keyferry up runs there"),
    ],
)
def test_bad_input_is_one_line(words, error):
    result = CliRunner().invoke(main, ["link", *words])

    assert isinstance(result.exception, ConfigError)
    assert error in str(result.exception)
    assert "\n" not in str(result.exception)
