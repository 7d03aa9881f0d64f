"""Reading keys: whose they are, how they are wrapped, and what is said when there is none."""

import asyncio
import base64
import logging
import sys
from pathlib import Path

import pytest

from qkd_client.wire import KmeError, KmeTimedOut, KmeUnreachable
from qkd_kms_adapters.openbao_plugin.engine.messages import Operation, ReadOnlyStorage, Refused

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import URN, Kmes, MemoryStorage, World, config_of, credential

sys.path.pop(0)

KEY_ID = "0b6a1c2e-6f0f-4a39-9b43-d5f2c4b1a001"


async def a_world(**role):
    world = World()
    await world.configure()
    await world.write("roles/backup", **{"peer_sae": "sae-b", "prefetch": 0, **role})
    return world


async def refused(coroutine):
    with pytest.raises(Refused) as error:
        await coroutine
    assert error.value.message.isprintable()
    return error.value.status, error.value.message


def test_a_fresh_key_is_read_once_and_by_its_id_at_the_other_site():
    async def run():
        here = await a_world()
        there = World(kmes=here.kmes)
        await there.configure("sae-b")
        await there.write("roles/backup", peer_sae="sae-a", encoding="hex")
        fresh, other = await here.read("keys/backup"), await here.read("keys/backup")
        assert fresh["key"] != other["key"]
        assert set(fresh) == {"key", "key_id", "encoding", "provenance"}
        same = await there.read(f"keys/backup/{fresh['key_id']}")
        assert same["key_id"] == fresh["key_id"]
        assert bytes.fromhex(same["key"]) == base64.b64decode(fresh["key"], validate=True)
        assert len(bytes.fromhex(same["key"])) == 32
        status, message = await refused(there.read(f"keys/backup/{fresh['key_id']}"))
        assert status == 400
        assert f"key {fresh['key_id']} for role backup: the KME answered 400" in message

    asyncio.run(run())


def test_a_key_id_goes_to_the_kme_as_it_was_written():
    async def run():
        world = await a_world()
        await refused(world.read(f"keys/backup/{KEY_ID.upper()}"))
        assert world.kmes.calls[-1] == ("key_by_id", "sae-b", KEY_ID.upper())

    asyncio.run(run())


def test_a_role_reads_only_its_own_keys():
    """Roles with other certificates, or with other peers, as the KME keeps them apart."""

    async def run():
        here = World()
        await here.configure("sae-a")
        await here.write("roles/one", peer_sae="sae-b")
        await here.write("roles/two", peer_sae="sae-b", **credential("sae-a2").fields)
        await here.write("roles/three", peer_sae="sae-c")
        there = World(kmes=here.kmes)
        await there.configure("sae-b")
        await there.write("roles/one", peer_sae="sae-a")
        await there.write("roles/two", peer_sae="sae-a2")
        await there.write("roles/three", peer_sae="sae-a", **credential("sae-c").fields)
        for role in ("one", "two", "three"):
            key_id = (await here.read(f"keys/{role}"))["key_id"]
            for other in {"one", "two", "three"} - {role}:
                await refused(there.read(f"keys/{other}/{key_id}"))
            assert (await there.read(f"keys/{role}/{key_id}"))["key_id"] == key_id

    asyncio.run(run())


def test_a_kme_that_does_not_name_the_provenance_leaves_it_unknown():
    async def run():
        world = await a_world()
        assert (await world.read("keys/backup"))["provenance"] == "simulated"
        world.kmes.provenance = ""
        assert (await world.read("keys/backup"))["provenance"] == "unknown"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("required", "asked_s", "answered_s"),
    [
        (False, None, None),
        (False, 60.0, None),
        (True, None, 300),
        (True, 60.0, 60.0),
        (True, 600.0, 300),
        (True, 0.0, 300),
    ],
)
def test_a_role_may_force_wrapping_and_a_client_may_only_shorten_it(required, asked_s, answered_s):
    async def run():
        world = await a_world(wrap_required=required, wrap_ttl=300)
        there = World(kmes=world.kmes)
        await there.configure("sae-b")
        await there.write("roles/backup", peer_sae="sae-a", wrap_required=required)
        fresh = await world.ask(Operation.READ, "keys/backup", wrap_ttl_s=asked_s)
        by_id = await there.ask(
            Operation.READ, f"keys/backup/{fresh.data['key_id']}", wrap_ttl_s=asked_s
        )
        assert fresh.wrap_ttl_s == by_id.wrap_ttl_s == answered_s

    asyncio.run(run())


@pytest.mark.parametrize("path", ["keys/backup", f"keys/backup/{KEY_ID}"])
def test_what_only_the_role_wants_wrapped_is_for_the_active_node_before_the_kme_is_asked(path):
    async def run():
        world = await a_world(wrap_required=True)
        world.kmes.calls.clear()
        world.storage.read_only = True
        with pytest.raises(ReadOnlyStorage):
            await world.ask(Operation.READ, path)
        assert world.kmes.calls == []
        if path == "keys/backup":  # the server has seen to what the client itself wants
            assert (await world.ask(Operation.READ, path, wrap_ttl_s=60.0)).data["key"]

    asyncio.run(run())


def test_no_role_and_no_config_are_told_apart():
    async def run():
        world = World()
        for path in ("keys/backup", f"keys/backup/{KEY_ID}", "status/backup"):
            assert await refused(world.read(path)) == (400, "there is no role backup")
        await world.write("roles/backup", peer_sae="sae-b")
        for path in ("keys/backup", f"keys/backup/{KEY_ID}", "status/backup"):
            assert await refused(world.read(path)) == (
                400,
                "not configured: write url, certificate, private_key and ca to config",
            )

    asyncio.run(run())


FAILURES = [
    (KmeError(400, "size is too large"), 400, "the KME answered 400: size is too large"),
    (KmeError(401, "not authorised"), 403, "the KME answered 401: not authorised"),
    (KmeError(403, "no"), 403, "the KME answered 403: no"),
    (KmeError(404, "no such SAE"), 400, "the KME answered 404: no such SAE"),
    (KmeError(429, "slow down"), 502, "the KME answered 429: slow down"),
    (KmeError(500, "oops"), 502, "the KME answered 500: oops"),
    (KmeError(503, "no keys"), 503, "the KME answered 503: no keys"),
    (KmeError(503, "no keys", 7), 503, "the KME answered 503: no keys, try again in 7 s"),
    (KmeError(503, ""), 503, "the KME answered 503: no reason given"),
    (KmeUnreachable("the KME did not answer: refused"), 502, "the KME did not answer: refused"),
    (KmeTimedOut(10), 504, "the KME did not answer within 10 s"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: repr(failure[0]))
@pytest.mark.parametrize("prefetch", [0, 64])
def test_a_refusal_of_the_kme_has_its_status_and_its_words(failure, prefetch):
    error, status, words = failure

    async def run():
        world = await a_world(prefetch=prefetch)
        world.kmes.failure = error
        for path, wanted in [
            ("keys/backup", "a fresh key for role backup"),
            (f"keys/backup/{KEY_ID}", f"key {KEY_ID} for role backup"),
            ("status/backup", "status of role backup"),
        ]:
            assert await refused(world.read(path)) == (status, f"{wanted}: {words}")
        await world.engine.close()

    asyncio.run(run())


def test_the_words_of_a_kme_are_cut_and_put_on_one_line():
    async def run():
        world = await a_world()
        world.kmes.failure = KmeError(400, "a\nb\x1b[31m\u202e " + "x" * 10000)
        _, message = await refused(world.read("keys/backup"))
        assert "a b [31m x" in message
        assert len(message) < 700

    asyncio.run(run())


def test_no_call_takes_longer_than_the_timeout():
    async def run():
        world = await a_world()
        await world.write("config", timeout=1)
        world.kmes.gate = asyncio.Event()
        paths = ("keys/backup", f"keys/backup/{KEY_ID}", "status/backup")
        answers = await asyncio.gather(*(refused(world.read(path)) for path in paths))
        for status, message in answers:
            assert status == 504
            assert message.endswith("the KME did not answer within 1 s")

    asyncio.run(asyncio.wait_for(run(), 10))


def test_status_is_the_kmes_and_what_is_fetched_ahead():
    async def run():
        world = await a_world()
        for _ in range(3):
            await world.read("keys/backup")
        return await world.read("status/backup")

    status = asyncio.run(run())
    assert status.pop("not_after").endswith("Z")
    assert status == {
        "source_kme_id": "kme-a",
        "target_kme_id": "kme-b",
        "master_sae_id": "sae-a",
        "slave_sae_id": "sae-b",
        "key_size": 256,
        "stored_key_count": 1000,
        "max_key_count": 2000,
        "max_key_per_request": 128,
        "max_key_size": 4096,
        "min_key_size": 64,
        "max_sae_id_count": 0,
        "status_extension": {"provenance": ["simulated"]},
        "prefetched": 0,
        "prefetch_served": 3,
        "prefetch_expired": 0,
        "prefetch_lost": 0,
        "prefetch_batch": 1,
    }


def test_unknown_fields_of_a_read_are_warned_of():
    async def run():
        world = await a_world()
        answer = await world.ask(Operation.READ, "keys/backup", {"bits": 512})
        assert "'bits'" in answer.warnings[0]
        assert answer.data["key_id"]

    asyncio.run(run())


def test_no_key_is_in_a_repr_a_log_or_an_error(caplog):
    caplog.set_level(logging.DEBUG)

    async def run():
        world = await a_world()
        answer = await world.ask(Operation.READ, "keys/backup")
        world.kmes.failure = KmeError(503, "no keys")
        _, message = await refused(world.read("keys/backup"))
        return answer, message, world.kmes.given

    answer, message, given = asyncio.run(run())
    seen = repr(answer) + message + caplog.text + repr(given)
    assert len(given) == 1
    for key in given:
        for text in (key.secret.hex(), base64.b64encode(key.secret).decode(), repr(key.secret)):
            assert text not in seen


def test_two_mounts_do_not_know_of_each_other():
    async def run():
        kmes, storages = Kmes(), [MemoryStorage(), MemoryStorage()]
        first, second = (World(storage, kmes) for storage in storages)
        await first.configure()
        assert await second.ask(Operation.READ, "config") is None
        await second.write("config", **{**config_of(), **credential("sae-z").fields})
        assert (await first.read("config"))["sae"] == [URN + "sae-a", "sae-a"]

    asyncio.run(run())
