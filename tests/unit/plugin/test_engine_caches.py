"""What is remembered between requests, and when it is dropped."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from qkd_client.wire import KmeUnreachable
from qkd_kms_adapters.openbao_plugin.engine.messages import Operation, Refused
from qkd_kms_adapters.openbao_plugin.engine.stock import OFTEN

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import World, config_of, credential

sys.path.pop(0)


async def a_world(**role):
    world = World()
    await world.configure()
    await world.write("roles/a", **{"peer_sae": "sae-b", **role})
    await world.read("keys/a")
    return world


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_key_is_read_without_storage_once_the_settings_are_known():
    async def run():
        world = await a_world()
        calls = world.storage.calls
        for _ in range(10):
            await world.read("keys/a")
        await world.read("roles/a")
        await world.read("config")
        assert world.storage.calls == calls

    asyncio.run(run())


def test_making_an_engine_and_initialising_it_touches_no_storage():
    async def run():
        world = World()
        await world.engine.initialize()
        world.engine.invalidate("config")
        world.engine.invalidate("roles/a")
        world.engine.invalidate("")
        await world.engine.close()
        assert world.storage.calls == 0

    asyncio.run(run())


def test_a_new_process_finds_the_settings_in_storage():
    async def run():
        world = await a_world()
        later = World(world.storage, world.kmes)
        await later.engine.initialize()
        assert (await later.read("keys/a"))["key_id"]

    asyncio.run(run())


def test_roles_with_the_mounts_certificate_share_a_connection_and_others_do_not():
    async def run():
        world = await a_world()
        await world.write("roles/b", peer_sae="sae-c")
        await world.write("roles/c", peer_sae="sae-b", **credential("sae-x").fields)
        for role in "abc":
            await world.read(f"keys/{role}")
        await settled()
        assert sorted(kme.sae for kme in world.kmes.open) == ["sae-a", "sae-x"]

    asyncio.run(run())


def test_a_setting_that_another_node_wrote_is_read_again():
    async def run():
        world = await a_world()
        role = json.loads(world.storage.values["roles/a"])
        world.storage.values["roles/a"] = json.dumps({**role, "bits": 512}).encode()
        assert (await world.read("roles/a"))["bits"] == 256
        world.engine.invalidate("roles/a")
        assert (await world.read("roles/a"))["bits"] == 512
        assert len((await world.read("keys/a"))["key"]) == 88
        config = json.loads(world.storage.values["config"])
        other = {**config, **credential("sae-x").fields}
        world.storage.values["config"] = json.dumps(other).encode()
        world.engine.invalidate("config")
        await world.read("keys/a")
        assert world.kmes.clients[-1].sae == "sae-x"
        del world.storage.values["roles/a"]
        world.engine.invalidate("roles/a")
        with pytest.raises(Refused, match="there is no role a"):
            await world.read("keys/a")

    asyncio.run(run())


@pytest.mark.parametrize("during", ["roles/a", "config"])
@pytest.mark.parametrize("changed", ["roles/a", "config"])
def test_a_change_during_a_read_from_storage_is_not_lost(during, changed):
    """The read gets the old value, and the news of the change comes before it is remembered."""
    new = {"roles/a": {"bits": 512}, "config": {"timeout": 5}}[changed]

    async def run():
        world = await a_world()
        old = json.loads(world.storage.values[changed])
        world.engine.invalidate("roles/a")
        world.engine.invalidate("config")

        async def change(key):
            if key == during:
                world.storage.before = None
                world.storage.values[changed] = json.dumps({**old, **new}).encode()
                world.engine.invalidate(changed)

        world.storage.before = change
        await world.read("keys/a")
        assert world.storage.before is None
        line = await world.engine._mount.line("a")
        if changed == "roles/a":
            assert (await world.read("roles/a"))["bits"] == line.role.bits == 512
        else:
            assert (await world.read("config"))["timeout"] == line.timeout_s == 5

    asyncio.run(run())


async def rewritten(world):
    await world.write("roles/a", bits=512)


async def role_deleted(world):
    await world.ask(Operation.DELETE, "roles/a")


async def reconfigured(world):
    await world.write("config", timeout=5)


async def config_deleted(world):
    await world.ask(Operation.DELETE, "config")


async def invalidated(world):
    world.engine.invalidate("config")


async def closed(world):
    await world.engine.close()


CHANGES = [rewritten, role_deleted, reconfigured, config_deleted, invalidated, closed]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("own", [False, True])
def test_a_change_burns_what_is_fetched_ahead_and_counts_it(change, own):
    async def run():
        world = await a_world(**(credential("sae-x").fields if own else {}))
        for _ in range(40):
            await world.read("keys/a")
        await settled()
        line = await world.engine._mount.line("a")
        ahead = line.stock.figures.prefetched
        assert ahead > 0
        given = len(world.kmes.given)
        await change(world)
        await settled()
        assert line.stock.figures.prefetched == 0
        figures = world.engine._mount.figures("a")
        assert figures["expired"] >= ahead
        assert figures["served"] == 41
        assert figures["served"] + figures["expired"] == given
        if own or change not in (rewritten, role_deleted):
            assert line.kme.closed

    asyncio.run(run())


@pytest.mark.parametrize("change", CHANGES[:5], ids=lambda change: change.__name__)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("prefetch", [0, 64])
def test_reads_under_way_finish_with_what_they_had(change, own, prefetch):
    async def run():
        pair = credential("sae-x").fields if own else {}
        world = await a_world(prefetch=prefetch, **pair)
        line = await world.engine._mount.line("a")
        while line.stock.figures.prefetched:
            await world.read("keys/a")
        await settled()
        while line.stock.figures.prefetched:
            await world.read("keys/a")
        gate = world.kmes.gate = asyncio.Event()
        reads = [asyncio.create_task(world.read("keys/a")) for _ in range(5)]
        await settled()
        changing = asyncio.create_task(change(world))
        await settled()
        gate.set()
        keys = await asyncio.gather(*reads)
        await changing
        await settled()
        assert {len(key["key"]) for key in keys} == {44}
        assert len({key["key_id"] for key in keys}) == 5
        assert line.stock.figures.prefetched == 0
        if own or change not in (rewritten, role_deleted):
            assert line.kme.closed

    asyncio.run(run())


@pytest.mark.parametrize("change", CHANGES[:5], ids=lambda change: change.__name__)
def test_a_batch_under_way_for_nobody_is_waited_for_and_counted(change):
    """Else its keys would be gone with the connection, and in no figure."""

    async def run():
        world = await a_world(**credential("sae-x").fields)
        line = await world.engine._mount.line("a")
        for _ in range(OFTEN + 1):
            await world.read("keys/a")
            await settled()
        gate = world.kmes.gate = asyncio.Event()
        given, asked = len(world.kmes.given), len(world.kmes.calls)
        while len(world.kmes.calls) == asked:
            await world.read("keys/a")
            await settled()
        await change(world)
        await settled()
        assert not line.kme.closed
        gate.set()
        await settled()
        figures = line.stock.figures
        assert line.kme.closed
        assert len(world.kmes.given) > given
        assert figures.served + figures.expired == len(world.kmes.given)
        assert (figures.prefetched, figures.lost) == (0, 0)

    asyncio.run(run())


def test_closing_gives_up_what_is_under_way():
    async def run():
        world = await a_world(prefetch=0)
        world.kmes.gate = asyncio.Event()
        reading = asyncio.create_task(world.read("keys/a"))
        await settled()
        await world.engine.close()
        assert world.kmes.open == []
        world.kmes.gate.set()
        with pytest.raises(Refused, match="closed"):
            await reading

    asyncio.run(run())


def test_many_concurrent_reads_of_many_roles_each_get_a_key_of_their_own():
    async def run():
        world = World()
        await world.configure()
        for number in range(4):
            await world.write(f"roles/r{number}", peer_sae=f"sae-{number}", bits=64 * (number + 1))
        later = World(world.storage, world.kmes)
        reads = [later.read(f"keys/r{n % 4}") for n in range(400)]

        async def meddle():
            for n in range(10):
                await later.write(f"roles/r{n % 4}", encoding="hex")
                later.engine.invalidate(f"roles/r{n % 3}")
                await later.write("config", **config_of(), timeout=n % 5 + 5)

        *answers, _ = await asyncio.gather(*reads, meddle())
        assert len({answer["key_id"] for answer in answers}) == 400
        for number, answer in enumerate(answers):
            _, peer, key = world.kmes.kept[answer["key_id"]]
            assert peer == f"sae-{number % 4}"
            assert len(key.secret) == 8 * (number % 4 + 1)
        await later.engine.close()
        await world.engine.close()
        await settled()
        assert world.kmes.open == []

    asyncio.run(run())


def test_the_rest_of_a_batch_that_comes_after_a_change_is_burnt_and_counted():
    async def run():
        world = await a_world()
        mount = world.engine._mount
        line = await mount.line("a")
        for _ in range(9):
            await world.read("keys/a")
            await settled()  # from the fourth on, the KME has said how many it gives at once
        line.stock.burn()
        ahead = mount.figures("a")["expired"]
        gate = world.kmes.gate = asyncio.Event()
        reads = [asyncio.create_task(world.read("keys/a")) for _ in range(50)]
        await settled()
        world.engine.invalidate("roles/a")
        for read in reads[1:]:
            read.cancel()
        await settled()
        gate.set()
        await reads[0]
        await settled()
        figures = mount.figures("a")
        assert line.stock.figures.prefetched == 0
        assert (figures["served"], figures["prefetched"], figures["batch"]) == (11, 0, 0)
        assert figures["expired"] == len(world.kmes.given) - 11 > ahead

    asyncio.run(run())


@pytest.mark.parametrize("changes", [1, 9])
def test_keys_of_an_answer_that_got_lost_are_counted_over_many_changes(changes):
    async def run():
        world = await a_world()
        for _ in range(9):
            await world.read("keys/a")
            await settled()
        (await world.engine._mount.line("a")).stock.burn()
        world.kmes.failure = KmeUnreachable("the reply broke off", in_doubt=True)
        with pytest.raises(Refused, match="broke off"):
            await world.read("keys/a")
        world.kmes.failure = None
        asked = int(world.kmes.calls[-1][-1])
        for number in range(changes):
            await world.write("roles/a", bits=64 * (number + 1))
            await world.read("keys/a")
        assert (await world.read("status/a"))["prefetch_lost"] == asked > 1

    asyncio.run(run())


def test_figures_of_a_role_add_up_over_many_changes():
    async def run():
        world = await a_world()
        for number in range(8):
            for _ in range(30):
                await world.read("keys/a")
            await world.write("roles/a", bits=64 * (number + 1))
        await settled()
        figures = world.engine._mount.figures("a")
        assert figures["served"] == 1 + 8 * 30
        assert figures["expired"] == len(world.kmes.given) - figures["served"] > 0

    asyncio.run(run())
