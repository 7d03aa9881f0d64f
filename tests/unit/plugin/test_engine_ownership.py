"""No two roles of a mount are one SAE towards one peer."""

import asyncio
import sys
from pathlib import Path

import pytest

from qkd_kms_adapters.openbao_plugin.engine.messages import Operation, Refused

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import URN, World, config_of, credential

sys.path.pop(0)

OWN = "give this role a certificate of its own"


async def refused(coroutine):
    with pytest.raises(Refused, match=OWN) as error:
        await coroutine
    assert error.value.status == 400
    return error.value.message


@pytest.mark.parametrize("configured", [False, True])
def test_a_second_role_with_the_mounts_certificate_and_the_same_peer_is_refused(configured):
    async def run():
        world = World()
        if configured:
            await world.configure()
        await world.write("roles/b", peer_sae="sae-b")
        message = await refused(world.write("roles/a", peer_sae="sae-b"))
        assert message.startswith("role a would read the same keys as role b")
        assert "sae-b" in message
        assert "roles/a" not in world.storage.values
        await world.write("roles/a", peer_sae="sae-c")
        await refused(world.write("roles/a", peer_sae="SAE-B"))
        assert (await world.read("roles/a"))["peer_sae"] == "sae-c"

    asyncio.run(run())


def test_a_role_may_be_written_again():
    async def run():
        world = World()
        await world.configure()
        for bits in (128, 256):
            await world.write("roles/a", peer_sae="sae-b", bits=bits)
            await world.write("roles/b", peer_sae="sae-b", bits=bits, **credential("x").fields)

    asyncio.run(run())


def test_a_peer_is_free_again_when_its_role_is_deleted():
    async def run():
        world = World()
        await world.write("roles/a", peer_sae="sae-b")
        await world.ask(Operation.DELETE, "roles/a")
        await world.write("roles/b", peer_sae="sae-b")

    asyncio.run(run())


SAME = {
    "a common name": ({"common_name": "x"}, {"common_name": "x"}),
    "its case": ({"common_name": "x"}, {"common_name": "X"}),
    "a URI": (
        {"common_name": "x", "uris": (URN + "s",)},
        {"common_name": "y", "uris": (URN + "s",)},
    ),
    "a URI among others": (
        {"common_name": "x", "uris": ("urn:a", "urn:b")},
        {"common_name": "y", "uris": ("urn:b", "urn:c")},
    ),
    "a spelling of a URI": (
        {"common_name": "x", "uris": (URN + "s%2D1",)},
        {"common_name": "y", "uris": (URN + "s-1",)},
    ),
    "our URI and a common name": (
        {"common_name": "x", "uris": (URN + "s",)},
        {"common_name": "s"},
    ),
    "a DNS name": (
        {"common_name": "x", "dns": ("s.example",)},
        {"common_name": "y", "dns": ("s.example",)},
    ),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_certificates_with_a_name_in_common_are_one_sae(pair):
    first, second = (credential(**names, days=(-1, 20 + n)) for n, names in enumerate(pair))
    assert first.certificate != second.certificate

    async def run():
        world = World()
        await world.write("roles/a", peer_sae="sae-b", **first.fields)
        await refused(world.write("roles/b", peer_sae="sae-b", **second.fields))
        await world.write("roles/b", peer_sae="sae-c", **second.fields)

    asyncio.run(run())


def test_a_role_with_the_mounts_certificate_as_its_own_is_the_mounts_sae():
    async def run():
        world = World()
        await world.configure("sae-a")
        await world.write("roles/a", peer_sae="sae-b")
        own = credential("sae-a", days=(-1, 10)).fields
        await refused(world.write("roles/b", peer_sae="sae-b", **own))
        await world.write("roles/c", peer_sae="sae-b", **credential("sae-c").fields)
        await refused(world.write("roles/c", certificate="", private_key=""))

    asyncio.run(run())


@pytest.mark.parametrize("earlier", [False, True])
def test_a_config_that_makes_two_roles_one_sae_is_refused(earlier):
    async def run():
        world = World()
        if earlier:
            await world.configure("sae-a")
        await world.write("roles/a", peer_sae="sae-b", **credential("sae-x").fields)
        await world.write("roles/b", peer_sae="sae-b")
        before = world.storage.values.get("config")
        message = await refused(world.write("config", **config_of("sae-x")))
        assert message.startswith("role b would read the same keys as role a")
        assert world.storage.values.get("config") == before
        await world.configure("sae-y")

    asyncio.run(run())


def test_of_roles_that_are_written_at_once_one_is_refused():
    async def run():
        world = World()
        await world.configure()
        answers = await asyncio.gather(
            *(world.write(f"roles/r{n}", peer_sae="sae-b") for n in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Refused) for answer in answers) == 7
        assert len([key for key in world.storage.values if key.startswith("roles/")]) == 1

    asyncio.run(run())


def test_a_role_and_a_config_that_are_written_at_once_do_not_both_pass():
    async def run():
        world = World()
        await world.configure("sae-a")
        await world.write("roles/a", peer_sae="sae-b")
        answers = await asyncio.gather(
            world.write("config", **config_of("sae-x")),
            world.write("roles/b", peer_sae="sae-b", **credential("sae-x").fields),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Refused) for answer in answers) == 1

    asyncio.run(run())
