"""A KME that talks to a standby node, which by itself answers from the past."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from keyferry.up import openbao
from qkd_core.types.ids import Generation, KmeId, Side
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy
from qkd_kms_adapters.conformance import a_key
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_session import connect

sys.path.insert(0, str(Path(__file__).parents[1]))
from free_ports import free_port

sys.path.pop(0)

STANDS_BY = 429
POLICY = RefreshPolicy(
    name="payments",
    kmes=(KmeId("kme-a"), KmeId("kme-b")),
    n_bits=256,
    algorithm=KeyAlgorithm.AES_GCM,
    interval_s=3600,
    initiator=Side.A,
)


@pytest.fixture(scope="module")
def standby(server_b, tmp_path_factory) -> Iterator[str]:
    """The address of a second node that joins ``server_b``; it ends with the test."""
    folder = tmp_path_factory.mktemp("standby") / "bao"
    ports = [free_port(), free_port()]
    config = openbao.prepare(folder, server_b.credential, port=ports[0], cluster_port=ports[1])
    settings = json.loads(config.read_text())
    settings["storage"]["raft"] |= {
        "node_id": "standby",
        "retry_join": [{"leader_api_addr": server_b.url, "leader_ca_cert_file": str(server_b.ca)}],
        "retry_join_as_non_voter": True,  # so that it may leave without a trace in the quorum
    }
    config.write_text(json.dumps(settings))
    shutil.copy(server_b.files.seal_key, openbao.OpenBaoFiles(folder).seal_key)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(openbao.command(folder), stdout=log, stderr=log, env={})
    url = f"https://127.0.0.1:{ports[0]}"
    try:
        wait_for_standby(url, server_b)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for_standby(url: str, server: Any) -> None:
    deadline = time.monotonic() + 20
    while status_of(url, server) != STANDS_BY:
        assert time.monotonic() < deadline, "the second node does not stand by"
        time.sleep(0.1)


def status_of(url: str, server: Any) -> int:
    try:
        answer = connect(url, server.ca, timeout_s=5).adapter.get(
            "/v1/sys/health", raise_exception=False
        )
    except requests.RequestException:
        return 0
    return 200 if isinstance(answer, dict) else answer.status_code


def through(url: str, target: Any) -> Any:
    return replace(target, login=replace(target.login, url=url))


def sink_of(target: Any) -> Any:
    return target.sink(POLICY, Servers())


def test_what_was_written_through_another_node_is_seen_at_once(server_b, standby) -> None:
    target = server_b.new_target()
    direct, late = sink_of(target), sink_of(through(standby, target))
    for number in range(1, 16):  # without the index, 3 of 4 such reads were stale
        generation, key = Generation(number), a_key()
        native = direct.publish(key, generation)
        assert late.publish(key, generation) == native  # its lost reply, tried again elsewhere
        assert late.state() == (generation, native)


def test_a_whole_run_goes_through_a_standby(server_b, standby) -> None:
    target = server_b.new_target()
    late = sink_of(through(standby, target))
    for number in range(1, 6):
        key = a_key()
        late.prepare(key, Generation(number))
        late.publish(key, Generation(number))
        late.agree(Generation(number))
    assert sink_of(target).state() == late.state() == (5, 5)


def test_a_transit_key_goes_in_through_a_standby(server_b, standby) -> None:
    target = server_b.new_transit()
    late, direct = sink_of(through(standby, target)), sink_of(target)
    for number in range(1, 7):
        generation, key = Generation(number), a_key()
        late.prepare(key, generation)
        native = (late if number % 2 else direct).publish(key, generation)
        assert native == number
        assert late.publish(key, generation) == native  # its lost reply, tried again elsewhere
        late.agree(generation)
        assert late.state() == direct.state() == (generation, native)
