"""Setting mounts up and giving them up, as the server asks for it over gRPC."""

import asyncio
import json
import logging
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.transport import broker
from qkd_kms_adapters.openbao_plugin.transport.proto import backend_pb2 as pb
from qkd_kms_adapters.openbao_plugin.transport.translating import CODED, INTERNAL, PLAIN

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import config_of
from transport_host import with_a_host

sys.path.pop(0)

ROLE = json.dumps({"peer_sae": "sae-b"})


async def a_mount(host, mount="m", service_id=1):
    await host.offer(service_id)
    assert await host.set_up(service_id, mount) == ""


async def a_role(host, mount="m"):
    for path, data in (("config", json.dumps(config_of())), ("roles/a", ROLE)):
        reply = await host.ask("update", path, data, mount)
        assert reply == pb.HandleRequestReply()


async def refused_setup(host):
    assert await host.set_up(1) == "the server offered no storage"
    assert host.engines == []


def test_storage_may_be_offered_before_it_is_asked_for_or_after(tmp_path):
    async def use(host):
        await host.offer(1)
        assert await host.set_up(1, "before") == ""
        late = asyncio.create_task(host.set_up(2, "after"))
        await asyncio.sleep(0.1)
        assert not late.done()
        await host.offer(2)
        assert await late == ""
        for mount in ("before", "after"):
            reply = await host.ask("list", "roles", mount=mount)
            assert not reply.HasField("err")

    with_a_host(tmp_path, use)


def test_a_mount_whose_storage_is_never_offered_is_not_set_up(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(broker, "OFFER_S", 0.1)
    with_a_host(tmp_path, refused_setup)
    assert "the server offers no storage for mount m" in caplog.text


def test_an_offer_that_comes_too_late_or_for_nobody_is_not_kept_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(broker, "OFFER_S", 0.1)

    async def use(host):
        await refused_setup(host)
        for service_id in range(1, 1001):
            await host.offer(service_id)
        assert await host.set_up(1000) == ""
        assert len(host.plugin._broker._offers) < broker.MOST_OFFERS
        assert host.plugin._broker._asked == {}

    with_a_host(tmp_path, use)


def test_a_mount_reads_keys_and_keeps_its_settings_in_the_servers_storage(tmp_path):
    async def use(host):
        await a_mount(host)
        await a_role(host)
        assert set(host.storage.kept.values) == {"config", "roles/a"}
        reply = await host.ask("read", "keys/a")
        assert len(json.loads(reply.response.data)["key"]) == 44
        assert json.loads((await host.ask("list", "roles")).response.data) == {"keys": ["a"]}
        assert await host.ask("delete", "roles/a") == pb.HandleRequestReply()
        assert set(host.storage.kept.values) == {"config"}

    with_a_host(tmp_path, use)


def test_a_mount_that_is_set_up_again_closes_what_it_had(tmp_path):
    async def use(host):
        await a_mount(host)
        await a_role(host)
        await host.ask("read", "keys/a")
        assert host.kmes.open
        await a_mount(host, service_id=2)
        first, second = host.engines
        assert (first.closed, second.closed) == (True, False)
        assert host.kmes.open == []
        assert (await host.ask("read", "keys/a")).response.data

    with_a_host(tmp_path, use)


def test_of_two_setups_of_a_mount_at_once_one_engine_is_left_open(tmp_path):
    async def use(host):
        await a_mount(host)
        await host.offer(2)
        await host.offer(3)
        assert await asyncio.gather(host.set_up(2), host.set_up(3)) == ["", ""]
        assert [engine.closed for engine in host.engines] == [True, True, False]
        assert host.plugin._mounts._mounts["m"][0] is host.engines[2]

    with_a_host(tmp_path, use)


def test_a_mount_is_given_up_once_and_the_others_stay(tmp_path):
    async def use(host):
        await a_mount(host, "one", 1)
        await a_mount(host, "two", 2)
        for _ in range(2):
            await host.call("/pb.Backend/Cleanup", pb.Empty(), pb.Empty, "one")
        assert [engine.closed for engine in host.engines] == [True, False]
        assert (await host.ask("list", "roles", mount="one")).HasField("err")
        assert not (await host.ask("list", "roles", mount="two")).HasField("err")

    over = with_a_host(tmp_path, use)
    assert [engine.closed for engine in over.engines] == [True, True], "at the end, all"


def test_an_unknown_mount_is_told_in_words_the_server_understands(tmp_path):
    async def use(host):
        told = pb.ProtoError(
            err_type=CODED,
            err_msg="the plugin does not have this mount: reload the plugin",
            err_code=500,
        )
        asked = pb.HandleExistenceCheckArgs(request=pb.Request(operation="create", path="roles/a"))
        reply = pb.HandleExistenceCheckReply
        assert (await host.ask("read", "config")).err == told
        assert (await host.call("/pb.Backend/HandleExistenceCheck", asked, reply)).err == told
        initialized = await host.call(
            "/pb.Backend/Initialize", pb.InitializeArgs(), pb.InitializeReply
        )
        assert initialized.err == told
        asked = pb.InvalidateKeyArgs(key="config")
        assert await host.call("/pb.Backend/InvalidateKey", asked, pb.Empty) == pb.Empty()

    with_a_host(tmp_path, use)


def test_news_of_a_changed_key_reach_the_mount_they_are_for(tmp_path):
    async def use(host):
        await a_mount(host)
        await a_role(host)
        kept = host.storage.kept.values
        kept["roles/a"] = kept["roles/a"].replace(b"256", b"512")
        assert json.loads((await host.ask("read", "roles/a")).response.data)["bits"] == 256
        asked = pb.InvalidateKeyArgs(key="roles/a")
        await host.call("/pb.Backend/InvalidateKey", asked, pb.Empty, "another")
        assert json.loads((await host.ask("read", "roles/a")).response.data)["bits"] == 256
        await host.call("/pb.Backend/InvalidateKey", asked, pb.Empty)
        assert json.loads((await host.ask("read", "roles/a")).response.data)["bits"] == 512

    with_a_host(tmp_path, use)


@pytest.mark.parametrize("operation", ["read", "update", "list", "delete"])
def test_what_storage_says_is_in_the_log_and_not_told_to_the_client(tmp_path, operation, caplog):
    async def use(host):
        await a_mount(host)
        host.storage.error = "raft: quorum lost 4711"
        path = "roles" if operation == "list" else "roles/a"
        reply = await host.ask(operation, path, ROLE)
        assert reply.err.err_type == INTERNAL
        assert reply.err.err_msg == "internal error, see the server's log"

    caplog.set_level(logging.ERROR)
    with_a_host(tmp_path, use)
    path = "roles" if operation == "list" else "roles/a"
    assert f"a request for {path} failed: raft: quorum lost 4711" in caplog.text


def test_a_role_that_is_damaged_is_named_in_the_log(tmp_path, caplog):
    async def use(host):
        await a_mount(host)
        host.storage.kept.values["roles/a"] = b'{"peer_sae": "hunter2'
        assert (await host.ask("read", "roles/a")).err.err_type == INTERNAL

    with_a_host(tmp_path, use)
    assert "a request for roles/a failed: what is stored at roles/a cannot be read" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_standby_says_so_in_the_servers_own_words(tmp_path):
    async def use(host):
        await a_mount(host)
        await a_role(host)
        host.storage.error = "cannot write to readonly storage"
        reply = await host.ask("update", "roles/a", ROLE)
        assert (reply.err.err_type, reply.err.err_msg) == (PLAIN, host.storage.error)

    with_a_host(tmp_path, use)


def test_a_mistake_of_the_client_is_answered_with_400(tmp_path):
    async def use(host):
        await a_mount(host)
        reply = await host.ask("update", "roles/a", "{}")
        assert json.loads(reply.response.data)["error"].startswith("peer_sae is missing")

    with_a_host(tmp_path, use)
