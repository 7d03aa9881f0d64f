"""A link server and two driver clients over real sockets."""

import itertools
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import numpy as np
import pytest

from qkd_core.errors import ConfigError, LinkDown
from qkd_core.types.ids import BlockId, Provenance, Side
from qkd_sim_link.conformance.pulses import CHECKS, Pair
from qkd_sim_link.drivers.simulated import SimulatedAlice, SimulatedBob
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.server import CONNECTIONS_MAX, Endpoint, serve
from qkd_sim_link.tokens import read_token, write_token
from qkd_sim_link.wire import VERSION, Message, receive, send

SCENARIO = load(DEFAULT)
SETTINGS = replace(SCENARIO.source.settings(), n_pulses=5_000_000)  # 5 ms, 2,400 clicks
PATIENCE_S = 0.5
NUMBERS = map(BlockId, itertools.count(1))

SERVER = """
import sys
from pathlib import Path
from qkd_core.types.ids import Side
from qkd_sim_link.scenarios.pulses import DEFAULT, load
from qkd_sim_link.serving.server import Endpoint, serve
home = Path(sys.argv[1])
serve(load(DEFAULT), {s: Endpoint(home / f"{s}.sock", home / f"{s}.token") for s in Side})
"""

WAITING_CLIENT = """
import sys
from pathlib import Path
from dataclasses import replace
from qkd_sim_link.drivers.simulated import SimulatedBob
from qkd_sim_link.scenarios.pulses import DEFAULT, load
home = Path(sys.argv[1])
bob = SimulatedBob(home / "b.sock", home / "b.token", timeout_s=60)
bob.arm(int(sys.argv[2]), replace(load(DEFAULT).source.settings(), n_pulses=5_000_000))
print("armed", flush=True)
bob.detections(int(sys.argv[2]))
"""


@dataclass(frozen=True)
class Link:
    home: Path

    @property
    def endpoints(self) -> dict[Side, Endpoint]:
        return {s: Endpoint(self.home / f"{s}.sock", self.home / f"{s}.token") for s in Side}

    def alice(self, timeout_s: float = PATIENCE_S) -> SimulatedAlice:
        end = self.endpoints[Side.A]
        return SimulatedAlice(end.socket_path, end.token_path, timeout_s=timeout_s)

    def bob(self, timeout_s: float = PATIENCE_S) -> SimulatedBob:
        end = self.endpoints[Side.B]
        return SimulatedBob(end.socket_path, end.token_path, timeout_s=timeout_s)

    def connect(self, side: Side, token: bytes) -> socket.socket:
        """A bare connection that says hello."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.endpoints[side].socket_path))
        send(sock, Message({"version": VERSION, "token": token.hex()}))
        return sock


@contextmanager
def served(home: Path, **options: object) -> Iterator[Link]:
    link, stop = Link(home), Event()
    for end in link.endpoints.values():
        write_token(end.token_path)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            serve(SCENARIO, link.endpoints, stop=stop, **options)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run)
    thread.start()
    until(lambda: errors or answers(link))
    try:
        yield link
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive() and not errors
        assert not any(end.socket_path.exists() for end in link.endpoints.values())


def answers(link: Link) -> bool:
    try:
        with link.alice(5) as alice, link.bob(5) as bob:
            return alice.provenance == bob.provenance
    except LinkDown:
        return False


def until(done, seconds: float = 20.0) -> None:
    deadline = monotonic() + seconds
    while not done():
        assert monotonic() < deadline
        sleep(0.02)


def run_block(link: Link) -> None:
    """A whole block through new connections."""
    block_id = next(NUMBERS)
    with link.alice() as alice, link.bob() as bob:
        alice.arm(block_id, SETTINGS)
        bob.arm(block_id, SETTINGS)
        clicks = bob.detections(block_id)
        chosen = alice.settings(block_id, clicks.time_ps // 1000)
    equal = (chosen >> 1 & 1) == clicks.detector >> 1
    assert 2000 < clicks.time_ps.size < 2800
    assert np.mean((chosen & 1)[equal] == (clicks.detector & 1)[equal]) > 0.95


def pair_of(alice: SimulatedAlice, bob: SimulatedBob) -> Pair:
    return Pair(
        alice=alice,
        bob=bob,
        settings=SETTINGS,
        block_ids=NUMBERS,
        dead_time_ps=SCENARIO.detector.dead_time_us * 1e6,
        jitter_sigma_ps=SCENARIO.detector.jitter_sigma_ps,
        patience_s=PATIENCE_S,
    )


@pytest.fixture(scope="module")
def link(tmp_path_factory) -> Iterator[Link]:
    with served(tmp_path_factory.mktemp("link")) as link:
        yield link


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_simulated_devices_keep_their_promises(link, check):
    with link.alice() as alice, link.bob() as bob:
        check(pair_of(alice, bob))


class HalfBob(SimulatedBob):
    def detections(self, block_id):
        whole = super().detections(block_id)
        n = whole.time_ps.size // 2
        return replace(whole, time_ps=whole.time_ps[:n], detector=whole.detector[:n])


class ShuffledBob(SimulatedBob):
    def detections(self, block_id):
        whole = super().detections(block_id)
        return replace(whole, time_ps=whole.time_ps[::-1])


class RestlessBob(SimulatedBob):
    def detections(self, block_id):
        whole = super().detections(block_id)
        twice = np.repeat(whole.time_ps, 2)
        twice[1::2] += 5000  # five slots later, inside the dead time
        return replace(whole, time_ps=twice, detector=np.repeat(whole.detector, 2))


class GuessingBob(SimulatedBob):
    def detections(self, block_id):
        whole = super().detections(block_id)
        guess = np.random.default_rng(1).integers(0, 4, whole.detector.size, np.uint8)
        return replace(whole, detector=guess)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (HalfBob, "a_block_is_whole_and_in_time_order"),
        (ShuffledBob, "a_block_is_whole_and_in_time_order"),
        (RestlessBob, "dead_time_is_kept_by_both_detectors"),
        (GuessingBob, "equal_bases_give_mostly_equal_bits"),
    ],
)
def test_the_checks_find_a_device_that_breaks_its_promise(link, kind, check):
    end = link.endpoints[Side.B]
    with (
        link.alice() as alice,
        kind(end.socket_path, end.token_path, timeout_s=PATIENCE_S) as bob,
        pytest.raises(AssertionError),
    ):
        checks = {check.__name__: check for check in CHECKS}
        checks[check](pair_of(alice, bob))


def test_provenance_is_simulated(link):
    with link.alice() as alice, link.bob() as bob:
        assert alice.provenance is bob.provenance is Provenance.SIMULATED


def test_sockets_are_for_their_owner_alone(link):
    for end in link.endpoints.values():
        assert end.socket_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("side", list(Side))
def test_the_wrong_side_s_token_and_a_guess_are_turned_away(link, side, caplog):
    caplog.set_level(logging.DEBUG)
    other = read_token(link.endpoints[side.other].token_path)
    for token in (other, b"x" * 32, b""):
        with link.connect(side, token) as sock, pytest.raises((EOFError, ConnectionResetError)):
            receive(sock, begin_s=5)

    assert caplog.text.count(f"side {side}: connection closed: wrong token") == 3
    assert other.hex() not in caplog.text
    run_block(link)


def test_a_driver_with_the_wrong_token_says_that_the_link_is_down(link):
    end = link.endpoints[Side.A]
    with (
        SimulatedAlice(end.socket_path, link.endpoints[Side.B].token_path, timeout_s=5) as alice,
        pytest.raises(LinkDown),
    ):
        alice.arm(BlockId(1), SETTINGS)


TOLD = {  # settings of one decoy, as a driver tells them
    "clock_hz": 1e9,
    "n_pulses": 1000,
    "intensities": [0.4, 0.1],
    "probabilities": [0.3, 0.7],
    "p_key_basis": 0.8,
}


@pytest.mark.parametrize("change", [{"intensities": [0.4]}, {"intensities": [0.1, 0.4]}])
def test_settings_that_are_none_are_refused_and_those_of_one_decoy_are_not(link, change):
    with link.connect(Side.A, read_token(link.endpoints[Side.A].token_path)) as sock:
        assert receive(sock, begin_s=5).header["provenance"] == "simulated"
        arm = {"request": "arm", "block_id": 77_777}  # no other test's
        send(sock, Message(arm | {"settings": TOLD | change}))
        assert "settings refused: intensities" in receive(sock, begin_s=5).header["error"]
        send(sock, Message(arm | {"settings": TOLD}))
        assert receive(sock, begin_s=5).header["ok"]


@pytest.mark.parametrize(
    ("side", "header"),
    [
        (Side.B, {"request": "settings", "block_id": 1, "start_s": 1.0}),
        (Side.A, {"request": "detections", "block_id": 1, "start_s": 1.0}),
        (Side.A, {"request": "photon_numbers"}),
        (Side.A, {"request": 5}),
        (Side.A, {}),
        (Side.A, {"request": "arm", "block_id": 1, "settings": {"clock_hz": 1e9}}),
        (Side.A, {"request": "arm", "block_id": 1, "settings": TOLD | {"intensities": [1, 0.1]}}),
        (Side.A, {"request": "arm", "block_id": 1, "settings": TOLD | {"probabilities": 0.5}}),
        (Side.A, {"request": "settings", "block_id": 0, "start_s": 1.0}),
        (Side.A, {"request": "settings", "block_id": 10**400, "start_s": 1.0}),
        (Side.A, {"request": "settings", "block_id": 1, "start_s": 1e9}),
        (Side.A, {"request": "settings", "block_id": 1, "start_s": 1.0}),  # without its array
    ],
)
def test_a_request_that_is_not_for_this_side_or_not_well_formed_ends_the_connection(
    link, side, header, caplog
):
    with link.connect(side, read_token(link.endpoints[side].token_path)) as sock:
        assert receive(sock, begin_s=5).header["provenance"] == "simulated"
        send(sock, Message(header))
        with pytest.raises((EOFError, ConnectionResetError)):
            receive(sock, begin_s=5)

    assert f"side {side}: connection closed:" in caplog.text
    run_block(link)


def test_a_hello_of_another_version_is_refused(link, caplog):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(link.endpoints[Side.A].socket_path))
        token = read_token(link.endpoints[Side.A].token_path).hex()
        send(sock, Message({"version": VERSION + 1, "token": token}))
        with pytest.raises((EOFError, ConnectionResetError)):
            receive(sock, begin_s=5)

    assert f"version {VERSION + 1}, this server speaks {VERSION}" in caplog.text


def test_a_client_killed_in_its_wait_leaves_a_link_that_works(link):
    block_id = next(NUMBERS)
    client = subprocess.Popen(
        [sys.executable, "-c", WAITING_CLIENT, str(link.home), str(block_id)],
        stdout=subprocess.PIPE,
    )
    with client:
        assert client.stdout is not None and client.stdout.readline() == b"armed\n"
        with link.alice() as alice:
            alice.arm(next(NUMBERS), SETTINGS)  # so the client's own block never starts
            client.kill()
            assert client.wait(10) == -signal.SIGKILL

    for _ in range(CONNECTIONS_MAX + 2):
        run_block(link)


def test_too_many_connections_are_turned_away(link):
    token = read_token(link.endpoints[Side.A].token_path)
    held = [link.connect(Side.A, token) for _ in range(CONNECTIONS_MAX)]
    try:
        for sock in held:
            receive(sock, begin_s=5)
        with link.alice() as alice, pytest.raises(LinkDown):
            alice.arm(next(NUMBERS), SETTINGS)
    finally:
        for sock in held:
            sock.close()
    until(lambda: answers(link))


def test_a_seeded_server_repeats_itself_and_takes_its_time(tmp_path):
    seen = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with served(tmp_path / name, seed=3, time_scale=0.02) as link:
            with link.alice(5) as alice, link.bob(5) as bob:
                alice.arm(BlockId(1), SETTINGS)
                bob.arm(BlockId(1), SETTINGS)
                started = monotonic()
                seen.append(bob.detections(BlockId(1)).time_ps)
                assert monotonic() - started > 0.9 * 5e-3 / 0.02
    np.testing.assert_array_equal(*seen)


def test_a_killed_server_is_a_link_that_is_down_and_its_successor_is_found(tmp_path):
    link = Link(tmp_path)
    for end in link.endpoints.values():
        write_token(end.token_path)
    with link.alice(20) as alice, link.bob(20) as bob:
        with pytest.raises(LinkDown, match="no connection to the link"):
            alice.arm(BlockId(1), SETTINGS)
        for block_id in (BlockId(2), BlockId(3)):
            server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)])
            with server:
                try:
                    until(lambda: answers(link), 60)
                    alice.arm(block_id, SETTINGS)
                    bob.arm(block_id, SETTINGS)
                    assert bob.detections(block_id).time_ps.size > 0
                finally:
                    server.kill()
            for end in (alice, bob):
                with pytest.raises(LinkDown, match="broke"):
                    end.arm(BlockId(9), SETTINGS)


def test_a_second_server_does_not_push_the_first_one_out(link):
    with pytest.raises(ConfigError, match="socket path"):
        serve(SCENARIO, link.endpoints, stop=Event())

    run_block(link)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    link = Link(tmp_path)
    for end in link.endpoints.values():
        write_token(end.token_path)
    link.endpoints[Side.A].socket_path.write_text("precious")

    with pytest.raises(ConfigError, match="socket path"):
        serve(SCENARIO, link.endpoints, stop=Event())

    assert link.endpoints[Side.A].socket_path.read_text() == "precious"


def test_two_sides_with_one_credential_are_refused(tmp_path):
    write_token(tmp_path / "a.token")
    same = Endpoint(tmp_path / "a.sock", tmp_path / "a.token")

    with pytest.raises(ConfigError, match="same bytes"):
        serve(SCENARIO, {Side.A: same, Side.B: replace(same, socket_path=tmp_path / "b.sock")})


def test_a_socket_path_that_is_too_long_is_refused_at_both_ends(tmp_path):
    link = Link(tmp_path / ("x" * 100))
    with pytest.raises(ConfigError, match="a unix socket allows 107"):
        link.alice()

    for side in Side:
        write_token(tmp_path / f"{side}.token")
    endpoints = {
        side: Endpoint(end.socket_path, tmp_path / f"{side}.token")
        for side, end in link.endpoints.items()
    }
    with pytest.raises(ConfigError, match="a unix socket allows 107"):
        serve(SCENARIO, endpoints, stop=Event())


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_scale_that_is_no_speed_is_refused(tmp_path, scale):
    with pytest.raises(ConfigError, match="time_scale"):
        serve(SCENARIO, Link(tmp_path).endpoints, time_scale=scale)
