"""Identity comes from the verified certificate, and each kind of caller has its own API."""

import time

import pytest

from qkd_api.identity import Identities, kme_uri, sae_uri
from qkd_core.errors import NotAuthorised
from qkd_core.types.ids import KmeId, SaeId

STATUS = "/api/v1/keys/sae-b1/status"
ALLOCATIONS = "/peer/v1/allocations"
SAE, OTHER_SAE = sae_uri(SaeId("sae-a1")), sae_uri(SaeId("sae-a2"))
PEER, OTHER_KME = kme_uri(KmeId("kme-b")), kme_uri(KmeId("kme-c"))


def certificate(*uris, common_names=(), lasts_s=3600.0):
    """As `ssl.SSLSocket.getpeercert` tells it."""
    end = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + lasts_s))
    return {
        "subject": tuple((("commonName", name),) for name in common_names),
        "subjectAltName": tuple(("URI", uri) for uri in uris),
        "notAfter": end,
    }


class Connection:
    def __init__(self, found):
        self._found = found

    def getpeercert(self):
        return self._found


def status_of(kme, path, found, method="GET", **request):
    answer = kme.ask(method, path, certificate=Connection(found), **request)
    assert answer.status_code < 400 or list(answer.json) == ["message"]
    return answer.status_code


@pytest.mark.parametrize("name", ["sae-1", "urn:x/y z", "Größe", "100%", "a%2Fb"])
def test_any_sae_id_survives_its_certificate(name):
    uri = sae_uri(SaeId(name))

    assert uri.isascii()
    assert Identities().sae(certificate(uri)) == name


def test_an_sae_certificate_opens_the_delivery_api_only(kme):
    assert status_of(kme, STATUS, certificate(SAE)) == 200
    assert status_of(kme, ALLOCATIONS, certificate(SAE), "POST", json={"allocations": []}) == 401


def test_the_peers_certificate_opens_the_inter_kme_api_only(kme):
    assert status_of(kme, ALLOCATIONS, certificate(PEER), "POST", json={"allocations": []}) == 200
    assert status_of(kme, STATUS, certificate(PEER)) == 401
    assert status_of(kme, "/api/v1/keys/sae-b1/enc_keys", certificate(PEER), "POST") == 401


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (STATUS, None),
        (STATUS, {}),
        (STATUS, certificate()),
        (STATUS, certificate(common_names=["sae-a1"])),
        (STATUS, certificate("urn:other:sae:sae-a1")),
        (STATUS, certificate("urn:keyferry:sae:")),
        (STATUS, certificate(SAE, OTHER_SAE)),
        (STATUS, certificate(SAE, PEER)),
        (STATUS, certificate(SAE, lasts_s=-1)),
        (STATUS, certificate(sae_uri(SaeId("stranger")))),
        (STATUS, certificate(sae_uri(SaeId("sae-b1")))),
        (f"{ALLOCATIONS}/x", certificate(OTHER_KME)),
        (f"{ALLOCATIONS}/x", certificate(PEER, SAE)),
        (f"{ALLOCATIONS}/x", certificate(PEER, OTHER_KME)),
        (f"{ALLOCATIONS}/x", certificate(PEER, lasts_s=-1)),
        (f"{ALLOCATIONS}/x", None),
        ("/peer/v1/nothing", certificate(SAE)),
    ],
)
def test_any_other_certificate_is_401_with_a_message(kme, path, found):
    assert status_of(kme, path, found) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-SSL-Client-CN": "sae-a1", "X-SSL-Client-Verify": "SUCCESS"},
        {"X-SSL-Client-S-DN": "CN=sae-a1", "SSL-Client-Verify": "SUCCESS"},
        {"X-Client-Cert": SAE, "X-Forwarded-Client-Cert": f"URI={SAE}"},
        {
            "X-Forwarded-For": "127.0.0.1",
            "Forwarded": "for=127.0.0.1",
            "X-Forwarded-User": "sae-a1",
        },
        {"Authorization": "Bearer sae-a1", "Remote-User": "sae-a1", "Cookie": "sae=sae-a1"},
    ],
)
def test_a_header_is_no_identity(kme, headers):
    """Without a certificate they open nothing; with one they change nothing."""
    assert status_of(kme, STATUS, None, headers=headers) == 401
    as_a2 = kme.ask("GET", STATUS, "sae-a2", headers=headers)
    assert as_a2.json["master_SAE_ID"] == "sae-a2"


def named(*uris, dns=(), common_names=()):
    found = certificate(*uris, common_names=common_names)
    return found | {"subjectAltName": (*found["subjectAltName"], *(("DNS", name) for name in dns))}


@pytest.mark.parametrize(
    ("order", "found", "sae"),
    [
        (("uri",), named(SAE, dns=["other"], common_names=["another"]), "sae-a1"),
        (("uri", "dns", "cn"), named(SAE, dns=["other"], common_names=["another"]), "sae-a1"),
        (("uri", "dns", "cn"), named(dns=["sae-a1"], common_names=["another"]), "sae-a1"),
        (("uri", "dns", "cn"), named(common_names=["sae-a1"]), "sae-a1"),
        (("uri", "dns", "cn"), named("urn:other:x", common_names=["sae-a1"]), "sae-a1"),
        (("cn", "uri"), named(SAE, common_names=["another"]), "another"),
        (("dns", "uri"), named(SAE, common_names=["another"]), "sae-a1"),
        (("cn",), named(SAE, dns=["other"], common_names=["another"]), "another"),
    ],
)
def test_the_first_kind_of_name_in_the_configured_order_decides(order, found, sae):
    assert Identities(order).sae(found) == sae


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (("uri",), named(dns=["sae-a1"], common_names=["sae-a1"])),
        (("uri", "dns"), named(common_names=["sae-a1"])),
        (("uri", "dns", "cn"), named(SAE, OTHER_SAE, dns=["sae-a1"])),
        (("uri", "dns", "cn"), named(dns=["sae-a1", "sae-a2"], common_names=["sae-a1"])),
        (("uri", "dns", "cn"), named(common_names=["sae-a1", "sae-a2"])),
        (("uri", "dns", "cn"), named()),
        (("cn",), named(PEER, common_names=["sae-a1"])),
        (("dns", "cn"), named(PEER, SAE, dns=["sae-a1"])),
    ],
)
def test_another_kind_of_name_several_names_and_a_kmes_name_are_no_sae(order, found):
    with pytest.raises(NotAuthorised):
        Identities(order).sae(found)


def test_a_kme_is_named_by_its_uri_only():
    assert Identities(("cn",)).kme(certificate(PEER, common_names=["kme-x"])) == "kme-b"
    with pytest.raises(NotAuthorised):
        Identities(("cn",)).kme(certificate(common_names=["kme-b"]))
