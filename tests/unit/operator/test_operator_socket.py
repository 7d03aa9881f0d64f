"""The socket: private, bounded, and the kernel's word for who calls."""

import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time

import pytest

from keyferry.operator import socket as operator_socket
from keyferry.operator.serving import serving_while
from keyferry.operator.socket import (
    REQUEST_BYTES,
    SOCKET_FILE,
    OperatorServer,
    ask,
    reachable,
)
from qkd_core.errors import ConfigError, KeyNotFound


@pytest.fixture
def served(short_folder):
    calls = []

    def handle(request, caller):
        calls.append((request, caller.uid))
        if request.get("fail"):
            raise {"known": KeyNotFound("no such key"), "defect": RuntimeError("secret")}[
                request["fail"]
            ]
        return {"heard": request}

    server = OperatorServer(short_folder, handle)
    yield short_folder, calls
    server.close()


def test_an_order_is_answered_and_the_caller_is_who_the_kernel_says(served):
    folder, calls = served
    assert ask(folder, {"order": "status"}) == {"heard": {"order": "status"}}
    assert calls == [({"order": "status"}, os.geteuid())]


def test_only_the_owner_may_connect(served):
    folder, _ = served
    assert stat.S_IMODE((folder / SOCKET_FILE).stat().st_mode) == 0o600


def test_another_user_is_refused_even_if_the_socket_let_it_in(served, monkeypatch):
    folder, calls = served
    monkeypatch.setattr(operator_socket, "CREDENTIALS", Pretending())
    assert "uid 4711 may not give orders" in ask(folder, {})["error"]
    assert calls == []


class Pretending:
    """As the kernel would describe a process of user 4711."""

    size = struct.calcsize("3i")

    def unpack(self, data):
        return 1, 4711, 4711


def test_errors_of_ours_are_told_and_defects_are_not(served):
    folder, _ = served
    assert ask(folder, {"fail": "known"}) == {"error": "no such key", "kind": "KeyNotFound"}
    assert ask(folder, {"fail": "defect"}) == {"error": "unexpected RuntimeError: see the log"}


@pytest.mark.parametrize(
    "line", [b"\n", b"{\n", b"[1]\n", b"{", b"x" * (REQUEST_BYTES + 1) + b"\n", b"\xff\n"]
)
def test_what_is_no_request_is_refused_and_the_next_one_is_served(served, line):
    folder, calls = served
    with reachable(folder) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(5)
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while not answer.endswith(b"\n"):
            part = connection.recv(4096)
            assert part
            answer += part
    assert "error" in json.loads(answer)
    assert ask(folder, {"order": "next"}) is not None
    assert len(calls) == 1


def test_callers_that_say_nothing_do_not_pile_up(served, monkeypatch):
    folder, _ = served
    monkeypatch.setattr(operator_socket, "REQUEST_S", 0.3)
    silent = []
    with reachable(folder) as path:
        for _ in range(20):
            connection = socket.socket(socket.AF_UNIX)
            silent.append(connection)
            with contextlib.suppress(BlockingIOError):  # more than the kernel lets wait
                connection.connect(str(path))
    deadline = time.monotonic() + 10
    while "heard" not in (ask_or_nothing(folder) or {}):
        assert time.monotonic() < deadline
    assert threading.active_count() < 20
    for connection in silent:
        connection.close()


def ask_or_nothing(folder):
    try:
        return ask(folder, {"order": "after"})
    except Exception:
        return None


def test_nobody_serves_where_no_site_runs(tmp_path, short_folder):
    assert ask(tmp_path / "none", {}) is None
    assert ask(short_folder, {}) is None
    server = OperatorServer(short_folder, lambda request, caller: {})
    server.close()
    assert ask(short_folder, {}) is None
    with socket.socket(socket.AF_UNIX) as dead, reachable(short_folder) as path:
        dead.bind(str(path))  # as a killed process leaves it
    assert ask(short_folder, {}) is None
    again = OperatorServer(short_folder, lambda request, caller: {"back": True})
    assert ask(short_folder, {}) == {"back": True}
    again.close()


def test_a_folder_with_a_very_long_path_serves_as_well(tmp_path):
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    server = OperatorServer(folder, lambda request, caller: {"long": True})
    assert ask(folder, {}) == {"long": True}
    server.close()


def test_a_folder_that_cannot_be_used_is_a_wrong_setting(tmp_path):
    with pytest.raises((ConfigError, OSError)):
        OperatorServer(tmp_path / "missing", lambda request, caller: {})


def test_it_is_served_once_this_process_leads(short_folder):
    leading = threading.Event()
    with serving_while(leading, short_folder, lambda request, caller: {"led": True}):
        assert ask(short_folder, {}) is None
        leading.set()
        deadline = time.monotonic() + 5
        while ask(short_folder, {}) != {"led": True}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert ask(short_folder, {}) is None
