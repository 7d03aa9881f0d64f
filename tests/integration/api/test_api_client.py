"""The client for services against real servers."""

import asyncio
import socket
import time

import pytest

from keyferry.pki.authority import Authority
from qkd_client.etsi014 import Etsi014Client
from qkd_client.wire import Key, KmeError, KmeUnreachable, keys_from_json, status_from_json
from qkd_kms_adapters.openbao_plugin.engine.kme import KmeSettings
from qkd_kms_adapters.openbao_plugin.engine.stock import Stock
from qkd_kms_adapters.openbao_plugin.kme_pool import KmePool


@pytest.fixture(scope="module")
def pair(lasting_sites):
    return lasting_sites.pair(stored_bytes=50_000)


@pytest.fixture
def client(certificates):
    made = []

    def connect(site, sae, **more):
        credential = certificates.sae(sae)
        port = site if isinstance(site, int) else site.port
        more = {"ca": certificates.authority.certificate} | more
        made.append(
            Etsi014Client(f"https://127.0.0.1:{port}", credential.cert, credential.key, **more)
        )
        return made[-1]

    yield connect
    for each in made:
        each.close()


def test_a_key_crosses_from_master_to_slave(pair, client):
    a, b = pair
    master, slave = client(a, "sae-a1"), client(b, "sae-b1")

    keys = master.get_key("sae-b1", number=2, size=512, additional_slaves=["sae-b2"])
    copies = slave.get_key_with_ids("sae-a1", [key.key_id for key in keys])

    assert copies == keys
    assert [len(key.secret) for key in keys] == [64, 64]
    assert [key.provenance for key in keys + copies] == ["simulated"] * 4


def test_status_is_read_whole(pair, client):
    status = client(pair[0], "sae-a1").status("sae-b1")

    assert (status.source_kme_id, status.target_kme_id) == ("kme-a", "kme-b")
    assert (status.master_sae_id, status.slave_sae_id) == ("sae-a1", "sae-b1")
    assert status.key_size == 256
    assert 0 < status.stored_key_count <= status.max_key_count
    assert status.extension["provenance"] == ["simulated"]


def test_the_kmes_refusal_has_its_status_and_message(pair, client):
    with pytest.raises(KmeError) as refused:
        client(pair[0], "sae-a1").get_key("sae-b1", size=257)
    with pytest.raises(KmeError) as exhausted:
        client(pair[0], "sae-a1").get_key("sae-b1", number=128, size=65536)

    assert (refused.value.status, refused.value.message) == (400, "size shall be a multiple of 8")
    assert exhausted.value.status == 503
    assert exhausted.value.retry_after_s >= 1


def test_one_connection_is_kept_and_opened_again_after_a_restart(sites, client):
    site = sites.start("a")
    saes = client(site, "sae-a1")
    first = saes.get_key("sae-b1") + saes.get_key("sae-b1")
    site.stop()
    with pytest.raises(KmeUnreachable):
        saes.status("sae-b1")
    sites.start("a", port=site.port)

    assert len(first) == 2
    assert saes.status("sae-b1").key_size == 256


def test_a_silent_kme_is_unreachable_within_the_timeout(client):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(KmeUnreachable):
            client(silent.getsockname()[1], "sae-a1", timeout_s=0.3).status("sae-b1")
        assert time.monotonic() - began < 2.0


def test_a_kme_of_another_authority_is_not_trusted(pair, client, tmp_path):
    other = Authority.create(tmp_path / "ca", "Other CA").certificate

    with pytest.raises(KmeUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        client(pair[0], "sae-a1", ca=other).get_key("sae-b1")


def test_keys_that_a_plugin_prefetches_are_read_one_by_one_at_the_other_site(pair, certificates):
    a, b = pair

    def pool(site, sae):
        credential = certificates.sae(sae)
        return KmePool(
            KmeSettings(
                url=f"https://127.0.0.1:{site.port}",
                certificate=credential.cert.read_text(),
                private_key=credential.key.read_text(),
                ca=certificates.authority.certificate.read_text(),
                timeout_s=20.0,
            )
        )

    async def work():
        master, slave = pool(a, "sae-a2"), pool(b, "sae-b2")
        try:
            stock = Stock(master, "sae-b2", n_bits=256, most=64, ttl_s=10.0)
            await asyncio.gather(*(stock.take() for _ in range(4)))
            await asyncio.sleep(0.5)  # the KME has said how many keys it gives at once
            keys = await asyncio.gather(*(stock.take() for _ in range(200)))
            copies = await asyncio.gather(*(slave.key_by_id("sae-a2", key.key_id) for key in keys))
        finally:
            await master.close()
            await slave.close()
        assert copies == keys
        assert len({key.key_id for key in keys}) == 200
        assert stock.figures.prefetched == 4 * 64 - 200

    asyncio.run(work())


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "https://",
        "https://x/api",
        "x:1",
        "https://x:99999",
        "https://a..b",
        "https://[::1",
        "https://a\0b",
        "https://a\nb",
    ],
)
def test_an_address_that_is_none_is_refused(url, certificates):
    credential = certificates.sae("sae-a1")

    with pytest.raises(ValueError, match="https://HOST"):
        Etsi014Client(url, credential.cert, credential.key, certificates.authority.certificate)


def test_a_key_does_not_show_its_bytes():
    assert "c2Vj" not in repr(Key("id", b"c2VjcmV0")) and "secret" not in repr(Key("id", b"s"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"keys": {}},
        {"keys": ["x"]},
        {"keys": [{"key": "AA=="}]},
        {"keys": [{"key_ID": "x"}]},
        {"keys": [{"key_ID": "x", "key": "c2VjcmV0!"}]},
        {"keys": [{"key_ID": 1, "key": "AA=="}]},
        {"keys": [{"key_ID": "x", "key": "c2VjcmV0é"}]},
    ],
)
def test_a_malformed_container_is_refused_without_its_bytes(fields):
    with pytest.raises(KmeUnreachable) as error:
        keys_from_json(fields)

    assert "c2VjcmV0" not in str(error.value)


@pytest.mark.parametrize(
    ("extension", "provenance"),
    [
        ({"keyferry_provenance": "device"}, "device"),
        ({"keyferry_provenance": "device", "vendor_hint": [1]}, "device"),
        ({"keyferry_provenance": ["device"]}, ""),
        ({"vendor_hint": 1}, ""),
        ("device", ""),
        (None, ""),
    ],
)
def test_only_our_extension_of_a_key_is_read(extension, provenance):
    container = {"keys": [{"key_ID": "x", "key": "AA==", "key_extension": extension}]}

    assert keys_from_json(container) == (Key("x", b"\0", provenance),)


def test_a_malformed_status_names_the_item():
    with pytest.raises(KmeUnreachable, match="source_KME_ID"):
        status_from_json({})
