"""Ports of ``keyferry up``, claimed by several starts on one machine."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from keyferry.up.layout import HOST, StateDirectory
from keyferry.up.ports import claim_port, claimed_ports


@pytest.fixture
def state(tmp_path):
    return StateDirectory(tmp_path)


def numbers(ports):
    sites = (ports.a, ports.b)
    of_sites = [(s.kme, s.metrics, s.openbao, s.openbao_cluster, s.line_to_kme) for s in sites]
    return {ports.channel, ports.line_to_channel, *of_sites[0], *of_sites[1]}


def test_each_port_is_another_one_and_free(state):
    with claimed_ports(state, lines=True) as ports:
        chosen = numbers(ports)
        assert len(chosen) == 12
        for port in chosen:
            with socket.create_server((HOST, port)):
                pass


def test_a_later_start_takes_those_of_the_one_before(state):
    with claimed_ports(state) as before:
        pass
    with claimed_ports(state) as after:
        assert after == before


def test_a_claimed_port_is_not_taken_though_nothing_listens_yet(state):
    with claimed_ports(state) as first, claimed_ports(state) as second:
        assert not (numbers(first) - {None}) & numbers(second)


def test_a_port_where_something_listens_is_not_taken():
    with ExitStack() as claims, socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        assert claim_port(claims, taken) != taken


CLAIMS_ONE = """
from contextlib import ExitStack
from keyferry.up.ports import claim_port
with ExitStack() as claims:
    print(claim_port(claims), flush=True)
    input()
"""


def test_the_claim_of_a_killed_process_is_gone():
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", CLAIMS_ONE]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        port = int(process.stdout.readline())
        with ExitStack() as claims:
            assert claim_port(claims, port) != port
        process.kill()
    with ExitStack() as claims:
        assert claim_port(claims, port) == port
