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


def test_a_header_is_no_identity(kme):
    headers = {"X-SSL-Client-CN": "sae-a1", "X-Client-Cert": SAE, "Authorization": "Bearer sae-a1"}

    assert status_of(kme, STATUS, None, headers=headers) == 401


def test_the_common_name_counts_only_where_it_is_configured_and_no_uri_speaks():
    by_name = Identities(common_names=True)

    assert by_name.sae(certificate(common_names=["sae-a1"])) == "sae-a1"
    assert by_name.sae(certificate(OTHER_SAE, common_names=["sae-a1"])) == "sae-a2"
    for found in (
        certificate(common_names=["sae-a1", "sae-a2"]),
        certificate(PEER, common_names=["sae-a1"]),
    ):
        with pytest.raises(NotAuthorised):
            by_name.sae(found)
    with pytest.raises(NotAuthorised):
        by_name.kme(certificate(common_names=["kme-b"]))
