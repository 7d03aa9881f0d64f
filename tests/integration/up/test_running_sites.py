"""Two running sites, seen by programs that know nothing but ``endpoints.json``."""

import base64
import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyferry.pki.authority import Authority

NOT_FOUND = "one or more keys specified are not found on KME"


def fetch(up, slave="sae-b", **wanted) -> dict[str, str]:
    status, answer = up.call("sae-a", "POST", f"/api/v1/keys/{slave}/enc_keys", wanted)
    assert status == 200, answer
    return answer["keys"][0]


def delivers(up) -> bool:
    """A site waits for the other one's witness after its start: 503 until then."""
    status, answer = up.call("sae-a", "POST", "/api/v1/keys/sae-b/enc_keys", {})
    assert status in (200, 503), answer
    return status == 200


def test_the_endpoints_file_says_where_everything_is(up):
    endpoints = up.endpoints
    assert set(endpoints) == {"ca", "link", "sites", "saes"}
    for site in endpoints["sites"].values():
        assert set(site) == {"kme_id", "kme_url", "metrics_url", "openbao"}
        assert set(site["openbao"]) == {"url", "ca", "token_file"}
        assert stat.S_IMODE(os.stat(site["openbao"]["token_file"]).st_mode) == 0o600
    homes = {name: sae["site"] for name, sae in endpoints["saes"].items()}
    assert homes == {"sae-a": "a", "sae-b": "b", "sae-c": "b"}
    assert stat.S_IMODE(up.state.stat().st_mode) == 0o700


def test_compiled_kernels_are_kept_where_the_environment_says(up, compiled):
    assert list(compiled.rglob("*.nbc"))
    assert not list(up.state.rglob("*.nbc"))


def test_status_says_what_is_stored_and_that_it_is_simulated(up):
    status, answer = up.call("sae-a", "GET", "/api/v1/keys/sae-b/status")
    assert status == 200
    assert answer["source_KME_ID"] == "kme-a"
    assert answer["target_KME_ID"] == "kme-b"
    assert 0 < answer["stored_key_count"] <= answer["max_key_count"]
    assert "simulated" in json.dumps(answer["status_extension"])


def test_both_saes_get_the_same_key_once(up):
    key = fetch(up)
    wanted = {"key_IDs": [{"key_ID": key["key_ID"]}]}
    status, answer = up.call("sae-b", "POST", "/api/v1/keys/sae-a/dec_keys", wanted)
    assert status == 200
    assert answer["keys"] == [key]
    assert len(base64.b64decode(key["key"])) == 32

    status, answer = up.call("sae-b", "POST", "/api/v1/keys/sae-a/dec_keys", wanted)
    assert (status, answer["message"]) == (400, NOT_FOUND)


def test_get_works_in_both_directions(up):
    status, answer = up.call("sae-b", "GET", "/api/v1/keys/sae-a/enc_keys?number=2&size=512")
    assert status == 200
    assert [len(base64.b64decode(key["key"])) for key in answer["keys"]] == [64, 64]
    key = answer["keys"][1]
    path = f"/api/v1/keys/sae-b/dec_keys?key_ID={key['key_ID']}"
    assert up.call("sae-a", "GET", path) == (200, {"keys": [key]})


def test_an_sae_cannot_have_the_key_of_another_one(up):
    key = fetch(up)
    path = f"/api/v1/keys/sae-a/dec_keys?key_ID={key['key_ID']}"
    assert up.call("sae-c", "GET", path)[0] == 401
    assert up.call("sae-b", "GET", path) == (200, {"keys": [key]})


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/api/v1/keys/sae-b/enc_keys", "{", "JSON"),
        ("/api/v1/keys/sae-b/enc_keys", {"size": 100}, "size shall be a multiple of 8"),
        ("/api/v1/keys/sae-b/enc_keys", {"number": 0}, "0"),
        ("/api/v1/keys/nobody/enc_keys", {}, "nobody"),
        ("/api/v1/keys/sae-a/enc_keys", {}, "sae-a"),
    ],
)
def test_a_malformed_request_is_refused_with_its_reason(up, path, body, reason):
    status, answer = up.call("sae-a", "POST", path, body)
    assert status == 400
    assert reason in answer["message"]


def test_a_certificate_of_another_authority_gets_no_connection(up, tmp_path):
    foreign = Authority.create(tmp_path / "ca", "somebody else")
    files = foreign.issue(
        tmp_path, "sae-a", uri="urn:keyferry:sae:sae-a", server=False, client=True
    )
    for certificate in (files, None):
        context = ssl.create_default_context(cafile=up.endpoints["ca"])
        if certificate:
            context.load_cert_chain(certificate.cert, certificate.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            url = up.endpoints["sites"]["a"]["kme_url"]
            up.call_with(context, url, "GET", "/api/v1/keys/sae-b/status")


def test_the_token_reads_the_key_and_the_mounts_and_nothing_else(up):
    read = {site: up.openbao(site, "secret/data/keyferry/backup").json() for site in "ab"}
    assert set(read["a"]["data"]["data"]) == {"key", "key_id", "generation", "provenance"}
    assert read["a"]["data"]["data"]["provenance"] == "simulated"
    assert all(isinstance(value, str) for value in read["a"]["data"]["data"].values())
    assert up.openbao("a", "sys/mounts").status_code == 200
    assert up.openbao("a", "secret/data/keyferry/backup", "POST").status_code == 403
    for path in ("sys/policies/acl/keyferry", "auth/approle/role/keyferry", "sys/audit"):
        assert up.openbao("a", path).status_code == 403
    for path in ("cubbyhole/x", "auth/token/revoke-self", "auth/token/create"):
        assert up.openbao("a", path, "POST").status_code == 403


def generation(up, site: str) -> int:
    try:
        answer = up.openbao(site, "secret/data/keyferry/backup")
    except OSError:
        return 0
    return int(answer.json()["data"]["data"]["generation"]) if answer.ok else 0


def test_a_dead_openbao_comes_back_and_both_sites_go_on_alike(up):
    before = generation(up, "b")
    pid = next(pid for pid in up.descendants() if is_openbao(up, pid, "b"))
    os.kill(pid, signal.SIGKILL)
    up.until(
        lambda: generation(up, "a") == generation(up, "b") > before + 1, "refreshes after the kill"
    )
    for number in range(before + 1, generation(up, "a") + 1):  # versions count as generations do
        found = [
            up.openbao(site, f"secret/data/keyferry/backup?version={number}").json()["data"]["data"]
            for site in "ab"
        ]
        assert found[0] == found[1]
        assert found[0]["generation"] == str(number)


def is_openbao(up, pid: int, site: str) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"server" in command and str(up.state / site / "openbao").encode() in command


def test_no_key_byte_lies_about_in_clear(up):
    """Logs, audit records, databases and every other file below the state directory.

    Also in copies from before the keys were asked for, when their bits still lay in the store.
    """
    for site in "ab":
        copy = up.state / "copies" / site
        shutil.copytree(up.state / site / "state", copy, ignore=shutil.ignore_patterns("*.sock"))
    secrets = [base64.b64decode(fetch(up)["key"]) for _ in range(3)]
    held = fetch(up)  # never fetched by its slave: it waits at site B
    secrets.append(base64.b64decode(held["key"]))
    data = up.openbao("a", "secret/data/keyferry/backup").json()["data"]["data"]
    secrets.append(base64.b64decode(data["key"]))
    up.until(lambda: up.metric("b", "keyferry_store_up"), "site B")
    needles = []
    for secret in secrets:
        for start_at in (0, 8, 16):  # also parts of a key
            part = secret[start_at : start_at + 16]
            needles += [part, part.hex().encode(), base64.b64encode(secret)]
    searched = 0
    for file in up.state.rglob("*"):
        if file.is_file() and "numba-cache" not in file.parts:
            content = file.read_bytes()
            searched += len(content)
            assert not any(needle in content for needle in needles), file
    assert searched > 1_000_000


def keyferry(*arguments) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keyferry", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_operator_sees_compares_and_burns(up):
    site = up.state / "a" / "site.toml"
    status = json.loads(keyferry("status", site, "--json").stdout)
    assert status["peer"] == {"kme": "kme-b", "answers": True}
    assert status["alarms"] == {}
    assert "site alarms  none" in keyferry("status", site).stdout

    for name in "ab":
        done = keyferry("reconcile", up.state / name / "site.toml", "--json")
        report = json.loads(done.stdout)
        assert (done.returncode, report["clean"]) == (0, True), report
        assert report["bytes_compared"] > 0

    key_id = fetch(up)["key_ID"]
    asked = json.loads(keyferry("burn", site, key_id, "--json").stdout)
    done = keyferry("burn", site, key_id, "--confirm", asked["code"])
    assert done.returncode == 0
    assert f"done: burn key {key_id} at both sites" in done.stdout
    status, answer = up.call("sae-b", "GET", f"/api/v1/keys/sae-a/dec_keys?key_ID={key_id}")
    assert (status, answer["message"]) == (400, NOT_FOUND)
    assert keyferry("burn", site, key_id, "--confirm", asked["code"]).returncode == 2


def confirmed(*arguments) -> None:
    code = json.loads(keyferry(*arguments, "--json").stdout)["code"]
    done = keyferry(*arguments, "--confirm", code)
    assert done.returncode == 0, done.stderr


def test_a_zeroised_link_makes_key_and_refreshes_again_once_it_is_rekeyed(up):
    sites = {name: up.state / name / "site.toml" for name in "ab"}
    confirmed("zeroise", sites["a"], "--link")
    up.until(lambda: all(not any(free(site).values()) for site in sites.values()), "empty stores")
    generations = generation(up, "a")
    keyferry("link", "secret", up.state / "new.secret")
    for name, site in sites.items():
        carried = up.state / f"carried-to-{name}.secret"
        shutil.copy(up.state / "new.secret", carried)
        carried.chmod(0o600)
        confirmed("link", "rekey", site, carried)
        assert not carried.exists()
    up.until(lambda: all(all(free(site).values()) for site in sites.values()), "new blocks")
    up.until(
        lambda: generation(up, "a") == generation(up, "b") > generations + 1, "refreshes after it"
    )
    for site in sites.values():
        blocks = json.loads(keyferry("status", site, "--json").stdout)["blocks"]
        assert "AuthenticationFailed" not in blocks, "a tag of before the rekey"


def free(site: Path) -> dict[str, int]:
    """Free bytes by owner, as the site knows them."""
    return dict(json.loads(keyferry("status", site, "--json").stdout)["free_bytes"])


def test_the_kmss_of_both_sites_are_compared_on_order(up):
    sites = {side: up.state / side / "site.toml" for side in "ab"}

    def compared():
        """Refused while a refresh is under way."""
        done = keyferry("policy", "compare", sites["a"], "backup", "--json")
        assert done.returncode == 0 or "policy backup: generation" in done.stderr, done.stderr
        return json.loads(done.stdout) if done.returncode == 0 else None

    answer = up.until(compared, "a comparison")
    assert answer["verdict"] == "same"
    assert answer["bytes_compared"] == answer["generations"]
    shown = json.loads(keyferry("policy", "show", sites["b"], "backup", "--json").stdout)
    assert shown["comparison"]["at"] is not None and shown["comparison"]["findings"] == []


def test_the_link_takes_faults_from_whoever_has_the_state_directory(up):
    def link(*words: str) -> dict[str, object]:
        command = [sys.executable, "-m", "keyferry", "link", *words, "--state", str(up.state)]
        done = subprocess.run([*command, "--json"], capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    for file in up.endpoints["link"].values():
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    assert link("fault", "message-delay", "delay_ms=5")["failure"] == "F5"
    assert [each["kind"] for each in link("faults", "--acting")["faults"]] == ["message-delay"]
    before = up.metric("b", "keyferry_secret_bits_total")
    up.until(lambda: up.metric("b", "keyferry_secret_bits_total") > before, "a block, delayed")
    assert link("fault", "clear")["cleared"] == 1


def test_killing_the_supervisor_ends_every_process_and_a_second_start_goes_on(up, start_up):
    """Last of this module: it ends the shared sites."""
    earlier = {fetch(up)["key_ID"] for _ in range(3)}
    unfetched = fetch(up)
    secret_bits = up.metric("a", "keyferry_secret_bits_total")
    pids = up.descendants()
    assert len(pids) >= 11  # link, 2 OpenBao, 2 x (kme, engine, API master and worker, jobs)
    up.process.send_signal(signal.SIGKILL)
    up.process.wait(10)
    deadline = time.monotonic() + 2
    while up.alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not up.alive(pids)

    again = start_up(up.state)
    try:
        again.until(lambda: again.metric("a", "keyferry_store_up") == 1, "site A again")
        again.until(lambda: again.metric("b", "keyferry_store_up") == 1, "site B again")
        assert again.metric("a", "keyferry_secret_bits_total") >= secret_bits
        again.until(lambda: delivers(again), "the first key of site A")
        later = {fetch(again)["key_ID"] for _ in range(3)}
        assert not later & earlier
        path = f"/api/v1/keys/sae-a/dec_keys?key_ID={unfetched['key_ID']}"
        assert again.call("sae-b", "GET", path) == (200, {"keys": [unfetched]})
        again.until(
            lambda: again.metric("a", "keyferry_secret_bits_total") > secret_bits, "a new block"
        )
        pids = again.descendants()
        again.end()
        assert again.process.returncode == 0
        assert not up.alive(pids)
        assert not (up.state / "endpoints.json").exists()
    finally:
        again.end()
