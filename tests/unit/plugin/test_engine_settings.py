"""Writing and reading ``config`` and ``roles``."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from qkd_client.wire import KmeError, KmeUnreachable
from qkd_kms_adapters.openbao_plugin.engine.messages import (
    Operation,
    ReadOnlyStorage,
    Refused,
    Request,
)
from qkd_kms_adapters.openbao_plugin.engine.storage import StorageFailed

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import URN, World, config_of, credential

sys.path.pop(0)


def test_what_is_configured_is_read_back_without_the_private_key():
    async def run():
        world = World()
        await world.configure(timeout="5s")
        return await world.read("config")

    data = asyncio.run(run())
    given = config_of()
    assert data.pop("not_after").endswith("Z")
    assert data == {
        "url": given["url"],
        "certificate": given["certificate"].strip(),
        "ca": given["ca"].strip(),
        "timeout": 5,
        "sae": [URN + "sae-a", "sae-a"],
    }


def test_nothing_is_read_before_it_is_written_or_after_it_is_deleted():
    async def run():
        world = World()
        assert await world.ask(Operation.READ, "config") is None
        assert await world.ask(Operation.READ, "roles/backup") is None
        assert await world.ask(Operation.LIST, "roles/") is None
        await world.configure()
        await world.write("roles/backup", peer_sae="sae-b")
        await world.ask(Operation.DELETE, "config")
        await world.ask(Operation.DELETE, "roles/backup")
        assert world.storage.values == {}
        assert await world.ask(Operation.READ, "config") is None
        assert await world.ask(Operation.READ, "roles/backup") is None

    asyncio.run(run())


def test_settings_exist_from_their_writing_on():
    async def run():
        world = World()

        async def exists(path):
            return await world.engine.exists(Request(operation=Operation.UPDATE, path=path))

        assert not await exists("config")
        assert not await exists("roles/backup")
        await world.configure()
        await world.write("roles/backup", peer_sae="sae-b")
        assert await exists("config")
        assert await exists("roles/backup")

    asyncio.run(run())


def test_all_that_is_written_is_stored_under_seal_wrapping():
    async def run():
        world = World()
        await world.configure()
        await world.write("roles/backup", peer_sae="sae-b")
        assert set(world.storage.values) == world.storage.sealed == {"config", "roles/backup"}

    asyncio.run(run())


def test_a_role_takes_its_defaults_and_text_from_the_command_line():
    async def run():
        world = World()
        await world.configure()
        await world.write("roles/a", peer_sae="sae-b")
        await world.write(
            "roles/b",
            peer_sae="sae-c",
            bits="512",
            wrap_required="true",
            wrap_ttl="5m",
            prefetch="0",
            encoding="hex",
        )
        return await world.read("roles/a"), await world.read("roles/b")

    plain, other = asyncio.run(run())
    assert plain.pop("not_after")
    assert plain == {
        "peer_sae": "sae-b",
        "bits": 256,
        "encoding": "base64",
        "wrap_required": False,
        "wrap_ttl": 300,
        "certificate": "",
        "prefetch": 64,
        "prefetch_ttl": 10,
        "sae": [URN + "sae-a", "sae-a"],
    }
    assert (other["bits"], other["wrap_required"], other["prefetch"]) == (512, True, 0)


def test_an_update_leaves_alone_what_it_leaves_out():
    async def run():
        world = World()
        await world.configure()
        before = json.loads(world.storage.values["config"])
        await world.write("config", timeout=7)
        assert json.loads(world.storage.values["config"]) == {**before, "timeout": 7}
        await world.write("roles/a", peer_sae="sae-b", bits=512)
        await world.write("roles/a", encoding="hex")
        role = await world.read("roles/a")
        assert (role["peer_sae"], role["bits"], role["encoding"]) == ("sae-b", 512, "hex")

    asyncio.run(run())


def test_a_role_may_be_written_before_there_is_a_kme():
    async def run():
        world = World()
        assert await world.write("roles/a", peer_sae="sae-b") == ()
        assert "sae" not in await world.read("roles/a")

    asyncio.run(run())


def test_a_role_gives_its_own_certificate_up_by_emptying_both():
    async def run():
        world = World()
        await world.configure()
        await world.write("roles/a", peer_sae="sae-b", **credential("sae-x").fields)
        assert (await world.read("roles/a"))["sae"] == ["sae-x"]
        await world.write("roles/a", certificate="", private_key="")
        assert (await world.read("roles/a"))["sae"] == [URN + "sae-a", "sae-a"]
        assert "PRIVATE" not in world.storage.values["roles/a"].decode()

    asyncio.run(run())


def test_an_expired_certificate_is_taken_with_a_warning():
    async def run(days):
        world = World()
        pair = credential("sae-old", days=days).fields
        warnings = await world.write("config", **{**config_of(), **pair})
        await world.configure()
        return warnings, await world.write("roles/a", peer_sae="sae-b", **pair)

    for warnings in asyncio.run(run((-9, -1))):
        assert any("expired at" in warning for warning in warnings)
    for warnings in asyncio.run(run((1, 9))):
        assert any("not valid before" in warning for warning in warnings)


def test_unknown_fields_are_warned_of_and_what_is_known_is_written():
    async def run():
        world = World()
        (warning,) = await world.write("config", **config_of(), ttl=1)
        assert "'ttl'" in warning
        assert "config" in world.storage.values

    asyncio.run(run())


@pytest.mark.parametrize(
    "failure", [KmeError(401, "this SAE is not known"), KmeUnreachable("no answer")]
)
def test_a_role_that_the_kme_does_not_serve_is_written_with_its_words_as_a_warning(failure):
    async def run():
        world = World()
        await world.configure()
        world.kmes.failure = failure
        (warning,) = await world.write("roles/a", peer_sae="sae-b")
        assert failure.message in warning
        assert "roles/a" in world.storage.values

    asyncio.run(run())


def test_a_length_that_the_kme_does_not_make_is_warned_of():
    async def run():
        world = World()
        await world.configure()
        (warning,) = await world.write("roles/a", peer_sae="sae-b", bits=8192)
        assert "64 to 4096 bits" in warning

    asyncio.run(run())


def test_roles_are_listed_in_order_and_in_pages():
    async def run():
        world = World()
        for number, name in enumerate(["c", "a", "d", "b"]):
            await world.write(f"roles/{name}", peer_sae=f"sae-{number}")

        async def names(path="roles", **data):
            answer = await world.ask(Operation.LIST, path, data)
            return answer.data["keys"] if answer else []

        assert await names() == await names("roles/") == ["a", "b", "c", "d"]
        assert await names(limit="2") == ["a", "b"]
        assert await names(after="b", limit=1) == ["c"]
        assert await names(after="bb") == ["c", "d"]
        assert await names(after="d") == []
        assert await names(limit=-1) == await names(limit=0) == ["a", "b", "c", "d"]

    asyncio.run(run())


def test_no_private_key_is_in_any_repr_answer_error_or_warning():
    """The base64 lines of both keys are looked for in all that a client or a log could see."""

    async def run():
        world = World()
        role_pair = credential("sae-x").fields
        seen = [await world.write("config", **config_of())]
        seen.append(await world.write("roles/a", peer_sae="sae-b", **role_pair))
        for path in ("config", "roles/a", "status/a"):
            seen.append(await world.read(path))
        mount = world.engine._mount
        line = await mount.line("a")
        seen += [await mount.kept.config(), await mount.kept.roles(), line.role, vars(mount)]
        seen.append(world.kmes.clients[0].settings)
        seen.append(Request(operation=Operation.UPDATE, path="config", data=config_of()))
        for bad in ({"certificate": 7, "private_key": role_pair["private_key"] + "x"}, role_pair):
            try:
                await world.write("config", **bad, url="nonsense")
            except Refused as refused:
                seen.append((refused, refused.__cause__, refused.__context__))
        return repr(seen)

    text = asyncio.run(run())
    for pem in (config_of()["private_key"], credential("sae-x").private_key):
        lines = pem.splitlines()[1:-1]
        assert lines
        assert not any(line in text for line in lines)


def test_a_standby_hands_the_write_on_and_changes_nothing():
    async def run():
        world = World()
        await world.configure()
        await world.write("roles/a", peer_sae="sae-b")
        await world.read("keys/a")
        before, clients = dict(world.storage.values), len(world.kmes.open)
        world.storage.read_only = True
        for path, data in [("config", {"timeout": 3}), ("roles/a", {"bits": 512})]:
            with pytest.raises(ReadOnlyStorage):
                await world.write(path, **data)
            with pytest.raises(ReadOnlyStorage):
                await world.ask(Operation.DELETE, path)
        await asyncio.sleep(0)
        assert world.storage.values == before
        calls = world.storage.calls
        await world.read("keys/a")
        assert (await world.read("config"))["timeout"] == 10
        assert world.storage.calls == calls, "the caches still hold"
        assert len(world.kmes.open) == clients

    asyncio.run(run())


def test_a_write_that_may_or_may_not_have_happened_is_looked_up_again():
    async def run():
        world = World()
        await world.configure()
        world.storage.failure = StorageFailed("lost the answer")
        with pytest.raises(StorageFailed):
            await world.write("config", timeout=3)
        assert (await world.read("config"))["timeout"] == 3

    asyncio.run(run())


@pytest.mark.parametrize("value", [b"\xff", b"[]", b"{}", b'"x"', b'{"url": 7}', b"null"])
def test_settings_that_cannot_be_read_are_a_failure_that_quotes_none_of_them(value):
    async def run():
        world = World()
        world.storage.values = {"config": value, "roles/a": value}
        for path in ("config", "roles/a"):
            with pytest.raises(StorageFailed, match="cannot be read") as failed:
                await world.read(path)
            assert failed.value.__cause__ is None

    asyncio.run(run())


def test_settings_of_a_later_version_are_read_without_what_is_new():
    async def run():
        world = World()
        await world.configure()
        stored = json.loads(world.storage.values["config"])
        del stored["timeout"]
        world.storage.values["config"] = json.dumps({**stored, "new": 1}).encode()
        world.engine.invalidate("config")
        assert (await world.read("config"))["timeout"] == 10

    asyncio.run(run())
