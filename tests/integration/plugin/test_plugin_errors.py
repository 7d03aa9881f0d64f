"""What a client of the server is told when the KME, the settings or the request are wrong."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyferry.pki.authority import Authority

sys.path.insert(0, str(Path(__file__).parent))
from kme_stand_in import Told, kme_stand_in, mute_kme, refusal

sys.path.pop(0)

UUID = "0f0f0f0f-0000-4000-8000-000000000000"
NOBODY = "https://127.0.0.1:1"


@pytest.fixture(scope="module")
def lasting_role(lasting_mounted, lasting_stand_in):
    return lasting_mounted(lasting_stand_in.url)


@pytest.fixture
def role(lasting_role, stand_in):
    """An engine whose KME the test commands, with the role ``r``."""
    wrote = lasting_role.write("roles/r", {"peer_sae": "sae-b1", "prefetch": 0, "bits": 256})
    assert wrote.status == 204
    for name in lasting_role.list("roles").data["keys"]:
        if name != "r":
            lasting_role.ask("DELETE", f"roles/{name}")
    stand_in.reset()
    return lasting_role


@pytest.mark.parametrize(
    "statuses",
    [(400, 400), (401, 403), (404, 400), (503, 503), (403, 403), (418, 502), (500, 502)],
)
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("keys/r", "a fresh key for role r"),
        (f"keys/r/{UUID}", f"key {UUID} for role r"),
        ("status/r", "status of role r"),
    ],
    ids=["fresh", "by ID", "status"],
)
def test_each_refusal_of_the_kme_has_its_status_and_its_words(
    role, stand_in, statuses, path, asked
):
    kmes, ours = statuses
    stand_in.tell = refusal(kmes, "not on a Monday")

    answer = role.read(path)

    assert answer.status == ours
    assert answer.errors == f"{asked}: the KME answered {kmes}: not on a Monday"


def test_the_kmes_advice_when_to_come_back_is_passed_on(role, stand_in):
    stand_in.tell = refusal(503, "no keys", Retry_After="7")

    answer = role.read("keys/r")

    assert answer.status == 503
    assert answer.errors.endswith("the KME answered 503: no keys, try again in 7 s")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"keys": 1}', b'{"keys": []}', b'{"keys": [{"key": "AA=="}]}']
)
def test_an_answer_that_is_none_is_502(role, stand_in, body):
    stand_in.tell = Told(200, body)

    answer = role.read("keys/r")

    assert answer.status == 502
    assert answer.errors.startswith("a fresh key for role r: ")
    assert "\n" not in answer.errors


def test_a_kme_that_is_down_is_502_and_keys_come_when_it_is_back(mounted, certificates):
    kme, ca = certificates.kme("kme-a"), certificates.authority.certificate
    with kme_stand_in(kme.cert, kme.key, ca) as first:
        mount = mounted(first.url)
        mount.write("roles/r", {"peer_sae": "sae-b1", "prefetch": 0})
        assert mount.read("keys/r").status == 200

    down = mount.read("keys/r")
    with kme_stand_in(kme.cert, kme.key, ca, port=first.server_port) as second:
        back = mount.read("keys/r")
        assert back.data["key_id"] in second.keys

    assert down.status == 502
    assert down.errors.startswith("a fresh key for role r: the KME did not answer: ")


def test_a_kme_that_never_answers_is_504_within_the_limit_and_holds_up_nobody(
    mounted, making, engines
):
    with mute_kme() as url:
        mount = mounted()
        mount.write("roles/r", {"peer_sae": "sae-b1"})  # before there is a KME that it waits for
        mount.write("config", making.settings(url, "sae-a1", timeout=3))

        def timed(read, path):
            begun = time.monotonic()
            return read(path), time.monotonic() - begun

        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(timed, mount.read, "keys/r") for _ in range(16)]
            time.sleep(0.3)
            others = [timed(engines[0].read, "keys/backup") for _ in range(3)]
            assert max(seconds for _, seconds in others) < 2
            stuck = [each.result() for each in waiting]

    assert [answer.status for answer, _ in others] == [200] * 3
    assert {answer.status for answer, _ in stuck} == {504}
    assert stuck[0][0].errors.endswith("the KME did not answer within 3 s")
    assert max(seconds for _, seconds in stuck) < 6


def test_a_slow_role_holds_up_no_other_role_of_its_mount(role, stand_in):
    role.write("roles/quick", {"peer_sae": "sae-b2", "prefetch": 0})
    stand_in.delay_s["sae-b1"] = 1.5
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(role.read, "keys/r")
        assert stand_in.asked.wait(5)
        quick = [role.read("keys/quick").status for _ in range(3)]
        assert not slow.done()

        assert quick == [200] * 3
        assert slow.result().status == 200


def test_a_kme_under_a_foreign_authority_is_not_believed(
    mounted, making, certificates, stand_in, tmp_path
):
    foreign = Authority.create(tmp_path / "ca", "another")
    mount = mounted(stand_in.url, ca=foreign.certificate.read_text())
    mount.write("roles/r", {"peer_sae": "sae-b1"})

    answer = mount.read("keys/r")

    assert answer.status == 502
    assert "certificate verify failed" in answer.errors
    assert not stand_in.asked.is_set()


def test_a_kme_at_another_name_than_its_certificates_is_not_believed(mounted, stand_in):
    mount = mounted(f"https://localhost:{stand_in.server_port}")
    mount.write("roles/r", {"peer_sae": "sae-b1"})

    answer = mount.read("keys/r")

    assert answer.status == 502
    assert "certificate verify failed" in answer.errors
    assert not stand_in.asked.is_set()


def test_a_client_certificate_that_the_kme_refuses_is_502(mounted, stand_in, tmp_path):
    foreign = Authority.create(tmp_path / "ca", "another")
    sae = foreign.issue(tmp_path, "sae-a1", server=False, client=True)
    mount = mounted(stand_in.url, sae)
    mount.write("roles/r", {"peer_sae": "sae-b1"})

    answer = mount.read("keys/r")

    assert answer.status == 502
    assert answer.errors.startswith("a fresh key for role r: the KME did not answer: ")


def test_a_role_for_a_peer_that_the_kme_does_not_know_is_written_with_a_warning(role, stand_in):
    stand_in.tell = refusal(400, "slave SAE sae-x is unknown")

    answer = role.write("roles/x", {"peer_sae": "sae-x"})

    assert answer.status == 200
    assert "slave SAE sae-x is unknown" in answer.body["warnings"][0]
    assert role.read("roles/x").data["peer_sae"] == "sae-x"


def test_without_settings_a_read_says_what_to_write(mounted):
    mount = mounted()
    mount.write("roles/r", {"peer_sae": "sae-b1"})

    for path in ("keys/r", f"keys/r/{UUID}", "status/r"):
        answer = mount.read(path)
        assert answer.status == 400
        assert answer.errors == (
            "not configured: write url, certificate, private_key and ca to config"
        )


def test_a_role_that_is_not_there_is_refused_by_its_name(role):
    for path in ("keys/none", f"keys/none/{UUID}", "status/none"):
        answer = role.read(path)
        assert (answer.status, answer.errors) == (400, "there is no role none")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "keys/r", 405),
        ("DELETE", "keys/r", 405),
        ("LIST", "keys/r", 404),
        ("POST", "status/r", 405),
        ("DELETE", "roles", 405),
        ("GET", "", 404),
        ("GET", "nonsense", 404),
        ("GET", "keys", 404),
        ("GET", "keys/r/x/y", 404),
        ("POST", "config/more", 404),
    ],
)
def test_what_the_engine_does_not_offer_is_405_or_404(role, method, path, status):
    fields = {"any": "thing"} if method == "POST" else None

    assert role.ask(method, path, fields).status == status


def test_a_patch_is_405(role):
    headers = {"Content-Type": "application/merge-patch+json"}

    assert role.ask("PATCH", "config", {"timeout": 5}, headers=headers).status == 405


BAD = [
    ("roles/x", {"bits": 128}, "peer_sae is missing"),
    ("roles/x", {"peer_sae": ""}, "peer_sae cannot be ''"),
    ("roles/x", {"peer_sae": ["a"]}, "peer_sae cannot be of type list"),
    ("roles/x", {"peer_sae": "a\nb"}, r"peer_sae cannot be 'a\nb'"),
    ("roles/x", {"peer_sae": "..", "bits": 8}, "must be"),
    ("roles/x", {"peer_sae": "p", "bits": 257}, "bits cannot be 257, it must be a multiple of 8"),
    ("roles/x", {"peer_sae": "p", "bits": 65544}, "bits cannot be 65544"),
    ("roles/x", {"peer_sae": "p", "bits": "many"}, "bits cannot be 'many'"),
    ("roles/x", {"peer_sae": "p", "bits": 1e300}, "bits cannot be"),
    ("roles/x", {"peer_sae": "p", "encoding": "utf-8"}, "it must be base64 or hex"),
    ("roles/x", {"peer_sae": "p", "wrap_required": "perhaps"}, "it must be true or false"),
    ("roles/x", {"peer_sae": "p", "wrap_ttl": "2 days"}, "wrap_ttl cannot be '2 days'"),
    ("roles/x", {"peer_sae": "p", "prefetch": 129}, "prefetch cannot be 129"),
    ("roles/x", {"peer_sae": "p", "prefetch_ttl": 0}, "prefetch_ttl cannot be 0"),
    ("roles/x", {"peer_sae": "p", "certificate": "x"}, "certificate"),
    ("roles/.x", {"peer_sae": "p"}, "name cannot be '.x'"),
    ("roles/" + "x" * 65, {"peer_sae": "p"}, "name cannot be"),
    ("roles/r%20r", {"peer_sae": "p"}, "name cannot be 'r r'"),
    ("config", {"url": "http://kme"}, "url must be https://HOST"),
    ("config", {"url": "https://kme/api"}, "url must be"),
    ("config", {"url": "https://u:p@kme"}, "url"),
    ("config", {"timeout": 61}, "timeout cannot be 61"),
    ("config", {"timeout": "-1s"}, "timeout cannot be '-1s'"),
    ("config", {"ca": "no PEM"}, "ca"),
    ("config", {"certificate": "no PEM"}, "certificate"),
    ("config", {"private_key": "no PEM"}, "private_key"),
]


@pytest.mark.parametrize(
    ("path", "fields", "words"), BAD, ids=[str(fields) for _, fields, _ in BAD]
)
def test_a_wrong_request_is_400_with_one_line_that_says_what(role, path, fields, words):
    before = role.read("config").data, role.list("roles").data

    answer = role.write(path, fields)

    assert answer.status == 400
    (line,) = answer.body["errors"]  # and nothing of the server's around it
    assert words in line
    assert "\n" not in line
    assert (role.read("config").data, role.list("roles").data) == before


@pytest.mark.parametrize("key_id", ["x", "0" * 36, UUID + "0", "%00", UUID.replace("-", "_")])
def test_a_key_id_that_is_no_uuid_is_refused_before_the_kme_is_asked(role, stand_in, key_id):
    answer = role.read(f"keys/r/{key_id}")

    assert answer.status in (400, 404)
    assert not stand_in.asked.is_set()


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"\xff\xfe", b'{"bits": NaN}'])
def test_a_body_that_is_no_object_is_refused_and_the_engine_goes_on(role, body):
    assert role.ask("POST", "roles/y", body).status == 400
    assert role.read("keys/r").status == 200


def test_fields_that_no_path_knows_are_named_in_a_warning(role):
    answer = role.write("roles/r", {"bit": 128})

    assert answer.status == 200
    assert answer.body["warnings"] == ["fields that this path does not know were ignored: 'bit'"]
    assert role.read("roles/r").data["bits"] == 256


def test_a_burst_of_wrong_requests_leaves_the_process_alone(role, bao):
    pid = bao.plugin_pid()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: role.read(f"keys/{'x' * (n * 37)}"), range(1, 40)))

    assert {answer.status for answer in answers} <= {400, 404}
    assert bao.plugin_pid() == pid
