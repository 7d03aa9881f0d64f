"""Settings in storage that cannot be read, or storage that fails, and what goes on all the same."""

import asyncio
import json
import logging
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.engine.messages import Operation, Refused
from qkd_kms_adapters.openbao_plugin.engine.storage import Damaged, StorageFailed

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import World, config_of

sys.path.pop(0)

LEFT_OUT = "what is stored at {} cannot be read: what was left out now has its default"
NOT_SEEN = (
    "role a was not looked at: what is stored there cannot be read, write it anew or delete it"
)


BROKEN = b'{"peer_sae": "hunter2'


async def a_world(damaged="roles/a", value=BROKEN):
    """Two roles, of which ``a`` is damaged, or the config."""
    world = World()
    await world.configure(timeout=5)
    await world.write("roles/a", peer_sae="sae-b", bits=512)
    await world.write("roles/b", peer_sae="sae-c")
    world.storage.values[damaged] = value
    world.engine.invalidate(damaged)
    return world


@pytest.mark.parametrize("key", ["roles/a", "config"])
def test_what_is_damaged_is_named_and_not_quoted(key):
    async def run():
        world = await a_world(key)
        paths = [key, "keys/a", "status/a"]
        for path in paths:
            with pytest.raises(Damaged) as damaged:
                await world.read(path)
            assert str(damaged.value) == f"what is stored at {key} cannot be read"

    asyncio.run(run())


NO_PEM = json.dumps({"peer_sae": "sae-b", "certificate": "hunter2", "private_key": "x"}).encode()


@pytest.mark.parametrize("value", [BROKEN, NO_PEM])
def test_a_damaged_role_leaves_the_others_and_the_config_alone(value):
    async def run():
        world = await a_world(value=value)
        assert (await world.read("keys/b"))["key_id"]
        assert await world.write("roles/b", bits=128) == (NOT_SEEN,)
        assert await world.write("roles/c", peer_sae="sae-d") == (NOT_SEEN,)
        assert await world.write("config", timeout=7) == (NOT_SEEN,)
        listed = await world.ask(Operation.LIST, "roles")
        assert listed.data["keys"] == ["a", "b", "c"]
        assert (await world.read("roles/b"))["bits"] == 128
        assert (await world.read("config"))["timeout"] == 7
        with pytest.raises(Refused, match="role d would read the same keys as role b"):
            await world.write("roles/d", peer_sae="sae-c")

    asyncio.run(run())


def test_a_damaged_role_can_be_written_anew_and_is_compared_again():
    async def run():
        world = await a_world()
        with pytest.raises(Refused, match="peer_sae is missing"):
            await world.write("roles/a", bits=128)
        with pytest.raises(Refused, match="role a would read the same keys as role b"):
            await world.write("roles/a", peer_sae="sae-c")
        assert await world.write("roles/a", peer_sae="sae-b") == (LEFT_OUT.format("roles/a"),)
        assert (await world.read("roles/a"))["bits"] == 256
        assert (await world.read("keys/a"))["key_id"]
        assert await world.write("roles/a", bits=128) == ()

    asyncio.run(run())


def test_a_damaged_role_can_be_deleted():
    async def run():
        world = await a_world()
        await world.ask(Operation.DELETE, "roles/a")
        assert await world.ask(Operation.READ, "roles/a") is None
        assert await world.write("roles/b", bits=128) == ()

    asyncio.run(run())


def test_a_damaged_config_can_be_written_anew():
    async def run():
        world = await a_world("config")
        with pytest.raises(Refused, match="url is missing"):
            await world.write("config", timeout=3)
        assert await world.write("config", **config_of()) == (LEFT_OUT.format("config"),)
        assert (await world.read("config"))["timeout"] == 10
        assert (await world.read("keys/a"))["key_id"]

    asyncio.run(run())


@pytest.mark.parametrize("key", ["roles/a", "config"])
def test_what_is_damaged_is_there_for_the_servers_policies(key):
    async def run():
        world = await a_world(key)
        assert await world.exists(key) is True
        await world.ask(Operation.DELETE, key)
        assert await world.exists(key) is False

    asyncio.run(run())


def test_a_role_that_was_written_is_no_failure_when_storage_fails_after_it(caplog):
    async def run():
        world = await a_world("config")
        await world.write("config", **config_of())
        world.engine.invalidate("roles/b")
        written = world.storage.put

        async def put(key, value, **more):
            await written(key, value, **more)
            world.storage.unreadable = StorageFailed("quorum lost 4711")

        world.storage.put = put
        warnings = await world.write("roles/b", bits=128)
        assert warnings == (
            "role b is written, but the server's storage failed since, see the server's log",
        )
        world.storage.unreadable = None
        assert (await world.read("roles/b"))["bits"] == 128

    caplog.set_level(logging.WARNING)
    asyncio.run(run())
    assert "role b is written and cannot be read: quorum lost 4711" in caplog.text


def test_who_writes_a_role_waits_three_seconds_for_the_kmes_doubts_at_most(monkeypatch):
    monkeypatch.setattr("qkd_kms_adapters.openbao_plugin.engine.roles.DOUBTS_S", 0.05)

    async def run():
        world = World()
        await world.configure(timeout=60)
        world.kmes.gate = asyncio.Event()
        (warning,) = await world.write("roles/a", peer_sae="sae-b")
        assert warning.endswith("yet: the KME did not answer within 0.05 s")

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_role_may_be_called_as_the_key_that_a_standby_hears_of_with_each_wrapped_read():
    async def run():
        world = World()
        await world.configure()
        await world.write("roles/nothing", peer_sae="sae-b")
        for _ in range(40):
            await world.read("keys/nothing")
            await asyncio.sleep(0)
        line = await world.engine._mount.line("nothing")
        ahead, calls = line.stock.figures.prefetched, world.storage.calls
        assert ahead > 0
        for key in ("nothing", "", "core/x"):
            world.engine.invalidate(key)
        assert await world.engine._mount.line("nothing") is line
        assert (line.stock.figures.prefetched, world.storage.calls) == (ahead, calls)

    asyncio.run(run())


@pytest.mark.parametrize("churned", ["roles/a", "config"])
def test_a_setting_that_changes_all_the_time_is_told_and_not_read_for_ever(churned):
    async def run():
        world = await a_world("roles/b")
        world.engine.invalidate(churned)

        async def change(key):
            world.engine.invalidate(churned)

        world.storage.before = change
        with pytest.raises(StorageFailed, match="role a or config changed in each of 10 reads"):
            await world.read("keys/a")
        assert (await world.read(churned))["sae"]

    asyncio.run(run())


def test_changes_of_other_roles_hold_up_no_read():
    async def run():
        world = await a_world("roles/b")
        world.engine.invalidate("roles/a")

        async def change(key):
            world.engine.invalidate("roles/b")

        world.storage.before, calls = change, world.storage.calls
        await world.read("keys/a")
        assert world.storage.calls == calls + 1

    asyncio.run(run())
