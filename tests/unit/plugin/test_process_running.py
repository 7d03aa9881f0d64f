import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from process_server import a_server, context, environment, spoken_to

sys.path.pop(0)

HERE = Path(__file__).parent
PLUGIN = (sys.executable, str(HERE / "process_plugin.py"))
NEST = (sys.executable, str(HERE / "process_nest.py"))
HOST = a_server()
TOKEN = "s.a-token-of-the-servers-own"  # noqa: S105


class Plugin:
    """A started plugin that has greeted, or said why it does not."""

    def __init__(self, folder: Path, *arguments: str, under: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*under, *PLUGIN, *arguments],
            env=environment(HOST[0], BAO_TOKEN=TOKEN, TMPDIR=str(folder)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()

    def say(self, word: str) -> str:
        """Call as the server does; returns the answer."""
        path, der = spoken_to(self.greeting)
        calling = context(ssl.PROTOCOL_TLS_CLIENT, HOST, der)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(path)
            with calling.wrap_socket(raw, server_hostname="localhost") as stream:
                stream.sendall(f"{word}\n".encode())
                return stream.recv(100).decode()

    def end(self) -> tuple[int, str, list[dict[str, str]]]:
        """Wait for it; returns its status, what else it printed, and its log."""
        out, log = self.process.communicate(timeout=20)
        return self.process.returncode, out, [json.loads(line) for line in log.splitlines()]


Start = Callable[..., Plugin]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts plugins with a folder of their own whose path is short enough for a socket."""
    folder = Path(mkdtemp(prefix="kf-"))
    started: list[Plugin] = []

    def start(*arguments: str, under: tuple[str, ...] = ()) -> Plugin:
        started.append(Plugin(folder, *arguments, under=under))
        return started[-1]

    yield start
    for plugin in started:
        plugin.process.kill()
        plugin.process.communicate()
    shutil.rmtree(folder)


def test_a_plugin_greets_serves_and_ends_at_the_servers_word(start: Start) -> None:
    plugin = start()
    path = Path(spoken_to(plugin.greeting)[0])
    assert path.is_relative_to(plugin.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    assert plugin.say("hello") == "hello\n"
    assert plugin.say("Shutdown") == "Shutdown\n"

    assert plugin.end() == (0, "", [])
    assert list(plugin.folder.iterdir()) == []


def test_a_plugin_ends_at_sigterm(start: Start) -> None:
    plugin = start()

    plugin.process.terminate()

    assert plugin.end() == (0, "", [])
    assert list(plugin.folder.iterdir()) == []


def test_what_a_terminal_sends_to_all_of_the_servers_processes_is_ignored(start: Start) -> None:
    plugin = start()

    plugin.process.send_signal(signal.SIGINT)
    plugin.process.send_signal(signal.SIGHUP)

    assert plugin.say("hello") == "hello\n"


def test_the_servers_token_is_nowhere_to_be_seen(start: Start) -> None:
    plugin = start()

    assert set(Path(f"/proc/{plugin.process.pid}/environ").read_bytes()) == {0}


def test_nothing_but_the_greeting_reaches_stdout(start: Start) -> None:
    plugin = start("prints")
    assert plugin.greeting.startswith("1|5|unix|")
    plugin.say("Shutdown")

    assert plugin.end() == (0, "", [])


def test_a_thread_that_waits_does_not_hold_up_the_end(start: Start) -> None:
    plugin = start("thread")
    begin = time.monotonic()
    plugin.say("Shutdown")

    assert plugin.end()[0] == 0
    assert time.monotonic() - begin < 15


def test_a_closing_that_hangs_is_cut_short_and_the_folder_goes(start: Start) -> None:
    plugin = start("hangs")
    begin = time.monotonic()
    plugin.say("Shutdown")

    assert plugin.end()[0] == 0
    assert time.monotonic() - begin < 15
    assert list(plugin.folder.iterdir()) == []


def test_a_closing_that_blocks_everything_is_ended_by_the_kernel_and_swept_later(
    start: Start,
) -> None:
    plugin = start("blocks")
    plugin.say("Shutdown")
    assert plugin.end()[0] == -signal.SIGALRM
    assert len(list(plugin.folder.iterdir())) == 1

    following = start()
    following.say("hello")
    while len(list(plugin.folder.iterdir())) > 1:
        time.sleep(0.01)
    following.say("Shutdown")

    _, _, log = following.end()
    assert [line["@message"] for line in log] == ["folders of killed processes, removed: 1"]
    assert list(plugin.folder.iterdir()) == []


def test_a_failure_in_the_event_loop_is_an_error_in_the_servers_log(start: Start) -> None:
    plugin = start()
    plugin.say("fail")
    plugin.say("Shutdown")

    status, _, (line,) = plugin.end()
    assert status == 0
    assert line["@level"] == "error"
    assert line["@message"] == "uncaught in the event loop"
    assert "a secret" not in json.dumps(line)


def test_a_plugin_whose_server_never_calls_ends(start: Start) -> None:
    plugin = start("impatient")

    status, _, (line,) = plugin.end()
    assert status == 0
    assert line["@level"] == "warn"
    assert line["@message"] == "ending: the server has not called within 0.3 s"


def test_a_plugin_whose_server_is_killed_ends(start: Start) -> None:
    plugin = start(under=NEST)
    assert plugin.say("hello") == "hello\n"

    plugin.process.kill()  # the server; the pipes end with the plugin

    _, out, (line,) = plugin.end()
    assert out == ""
    assert line["@message"] == "ending: the server that started this process is gone"
    assert list(plugin.folder.iterdir()) == []


def run(**environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(PLUGIN, env=environ, capture_output=True, text=True, timeout=20)


def test_a_person_who_starts_it_by_hand_is_told_what_it_is() -> None:
    done = run()

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("This is a secrets engine for OpenBao and Vault.")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"PLUGIN_CLIENT_CERT": "none"}, "PLUGIN_CLIENT_CERT: "),
        ({"PLUGIN_UNIX_SOCKET_DIR": "/nowhere/at/all"}, "/nowhere/at/all: no folder"),
        ({"PLUGIN_UNIX_SOCKET_DIR": "/run/" + "x" * 100}, "a socket's path has 107"),
    ],
)
def test_why_it_cannot_start_is_one_error_in_the_servers_log(
    change: dict[str, str], words: str
) -> None:
    done = run(**environment(HOST[0], **change))

    assert done.returncode == 1
    assert done.stdout == ""
    line = json.loads(done.stderr)
    assert line["@level"] == "error"
    assert line["@message"].startswith("the plugin cannot start: ")
    assert words in line["@message"]


def test_a_server_that_hung_up_before_the_greeting_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with suppress(BrokenPipeError):
        done = subprocess.run(
            PLUGIN, env=environment(HOST[0]), stdout=writer, stderr=subprocess.PIPE, timeout=20
        )
    os.close(writer)

    assert done.returncode == 1
    assert b"does not read the greeting (Broken pipe)" in done.stderr
