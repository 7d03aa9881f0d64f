"""What ``config`` and ``roles`` do not take."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from qkd_kms_adapters.openbao_plugin.engine.certificates import identity_of
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused

sys.path.insert(0, str(Path(__file__).parent))
from engine_world import URN, World, config_of, credential, encrypted_key

sys.path.pop(0)


def refusal(coroutine):
    with pytest.raises(Refused) as refused:
        asyncio.run(coroutine)
    assert refused.value.status == 400
    assert refused.value.message.isprintable()
    return refused.value.message


@pytest.mark.parametrize("missing", ["url", "certificate", "private_key", "ca"])
def test_a_first_config_is_complete(missing):
    given = {name: value for name, value in config_of().items() if name != missing}
    message = refusal(World().write("config", **given))
    assert missing in message


def test_a_role_needs_a_peer():
    assert "peer_sae is missing" in refusal(World().write("roles/a", bits=256))


@pytest.mark.parametrize("field", ["certificate", "private_key"])
@pytest.mark.parametrize("path", ["config", "roles/a"])
def test_a_certificate_and_its_key_are_changed_together(path, field):
    async def run():
        world = World()
        await world.configure()
        await world.write("roles/a", peer_sae="sae-b", **credential("sae-x").fields)
        await world.write(path, **{field: credential("other").fields[field]})

    assert "only changed together" in refusal(run())


URLS = [
    "http://kme",
    "kme:8443",
    "https://",
    "https://kme/path",
    "https://kme?x=1",
    "https://kme/#x",
    "https://user:hunter2@kme",
    "https://kme:port",
    "https://kme:0",
    "https://kme:65536",
    "https://kme:",
    "https://[::1",
    "https://k me",
    "https://kme\\x",
    "",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_with_more_or_less_than_a_host_is_refused(url):
    message = refusal(World().write("config", **{**config_of(), "url": url}))
    assert message == "url must be https://HOST or https://HOST:PORT, without a path or a user"


@pytest.mark.parametrize(
    "url",
    ["https://kme", "https://kme.example:8443", "https://[::1]:1", "https://127.0.0.1/"],
)
@pytest.mark.parametrize("around", ["", "\n", " "])
def test_a_url_of_a_host_is_taken_without_the_space_around_it(url, around):
    async def run():
        world = World()
        await world.configure(url=around + url + around)
        assert (await world.read("config"))["url"] == url

    asyncio.run(run())


def test_certificates_and_keys_that_cannot_be_used_are_refused():
    other, own = credential("other"), credential("sae-a", uris=(URN + "sae-a",))

    def message(**changed):
        return refusal(World().write("config", **{**config_of(), **changed}))

    assert "does not belong" in message(private_key=other.private_key)
    assert "is encrypted" in message(private_key=encrypted_key())
    assert "not a private key" in message(private_key="hunter2")
    assert "not a private key" in message(private_key=own.certificate)
    assert "not a private key" in message(private_key="\ud800")
    assert "certificate must be" in message(certificate="\ud800")
    assert "certificate must be certificates in PEM" in message(certificate="hunter2")
    assert "ca must be certificates in PEM" in message(ca="")
    broken = own.certificate.replace("MII", "QII", 1)
    assert "certificate must be certificates in PEM" in message(certificate=broken)
    assert "names no SAE" in message(**credential(None).fields)


@pytest.mark.parametrize("field", ["certificate", "ca"])
def test_a_private_key_pasted_where_it_would_be_shown_is_refused(field):
    own = credential("sae-a", uris=(URN + "sae-a",))
    both = own.certificate + own.private_key
    message = refusal(World().write("config", **{**config_of(), field: both}))
    assert message == f"{field} holds a private key: it takes certificates only"


def test_what_the_client_of_the_kme_cannot_use_is_refused_before_it_is_stored():
    async def run():
        world = World()
        try:
            await world.configure(url="https://unusable")
        finally:
            assert world.storage.values == {}

    assert "this certificate cannot be used" in refusal(run())


PEERS = ["", " sae-b", "sae-b ", "a\nb", "x" * 257, ".", "..", "\ud800", 7, None]


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_cannot_stand_in_a_url_is_refused(peer):
    assert refusal(World().write("roles/a", peer_sae=peer)).startswith("peer_sae")


@pytest.mark.parametrize(
    "url", ["https://sae:hunter2@kme\n", "https://sae:hunter2@k\nme", 7, "x" * 2000]
)
def test_a_url_is_never_quoted_for_it_may_hold_a_password(url):
    message = refusal(World().write("config", **{**config_of(), "url": url}))
    assert message == "url must be https://HOST or https://HOST:PORT, without a path or a user"


def certificate_with(*extensions):
    """A certificate in PEM with these extensions, (OID, DER) each, whatever they are."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sae-a")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    for oid, value in extensions:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def in_pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


SAN = "2.5.29.17"
ONE, OTHER = "1.2.3.4", "1.2.3.5"
EXTENSIONS = {
    "a name of a kind that nobody has": in_pem(certificate_with((SAN, b"\x30\x02\xa3\x00"))),
    "names that are no names": in_pem(certificate_with((SAN, b"\xff"))),
    "the same extension twice": in_pem(
        certificate_with((ONE, b"x"), (OTHER, b"x")).replace(b"\x2a\x03\x05", b"\x2a\x03\x04")
    ),
}


@pytest.mark.parametrize("certificate", EXTENSIONS.values(), ids=EXTENSIONS.keys())
def test_extensions_that_cannot_be_read_are_refused(certificate):
    with pytest.raises(Refused, match="certificate has extensions that cannot be read") as refused:
        identity_of(certificate)
    assert refused.value.status == 400
