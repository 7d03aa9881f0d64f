"""Two KMEs as processes, mutual TLS between them and to their SAEs: one key at both sites."""

import base64
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

NOT_FOUND = "one or more keys specified are not found on KME"
ENC_AT_A, DEC_AT_B = "/api/v1/keys/sae-b1/enc_keys", "/api/v1/keys/sae-a1/dec_keys"
ENC_AT_B, DEC_AT_A = "/api/v1/keys/sae-a1/enc_keys", "/api/v1/keys/sae-b1/dec_keys"
NOBODY = "https://127.0.0.1:1"  # a peer URL at which no one answers


def ids(keys):
    return {"key_IDs": [{"key_ID": key["key_ID"]} for key in keys]}


def new_keys(site, sae, path, number=1, **more):
    answer = site.ask(sae, "POST", path, {"number": number} | more)
    assert answer.status == 200, answer.body
    return answer.json["keys"]


def metric(site, name):
    url = f"http://127.0.0.1:{site.settings['metrics_port']}/metrics"
    with urllib.request.urlopen(url) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def eventually(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def pair(request, lasting_sites):
    return lasting_sites.pair(store=request.param, stored_bytes=100_000)


def test_the_slave_gets_the_masters_keys_at_once_and_only_once(pair):
    a, b = pair
    keys = new_keys(a, "sae-a1", ENC_AT_A, number=3, size=512)

    copies = b.ask("sae-b1", "POST", DEC_AT_B, ids(keys))
    again = b.ask("sae-b1", "POST", DEC_AT_B, ids(keys))

    assert (copies.status, copies.json["keys"]) == (200, keys)
    assert {len(base64.b64decode(key["key"])) for key in keys} == {64}
    assert (again.status, again.json["message"]) == (400, NOT_FOUND)


def test_both_directions_work_at_once_and_no_byte_is_in_two_keys(pair):
    a, b = pair

    def round_trip(number):
        there, back = ((a, "sae-a1"), (b, "sae-b1"))[:: 1 if number % 2 else -1]
        enc, dec = (ENC_AT_A, DEC_AT_B) if number % 2 else (ENC_AT_B, DEC_AT_A)
        keys = new_keys(*there, enc, number=5)
        copies = back[0].ask(back[1], "POST", dec, ids(keys))
        assert copies.json.get("keys") == keys, copies.body
        return keys

    for sae, site in (("sae-a1", a), ("sae-b1", b)):
        site.certificates.sae(sae)
    with ThreadPoolExecutor(6) as pool:
        keys = [key for found in pool.map(round_trip, range(36)) for key in found]

    halves = {base64.b64decode(key["key"])[i : i + 16] for key in keys for i in (0, 16)}
    assert len(halves) == 2 * len(keys) == 360


def test_another_slaves_key_is_401_and_stays_for_its_slave(pair):
    a, b = pair
    keys = new_keys(a, "sae-a1", ENC_AT_A)

    assert b.ask("sae-b2", "POST", DEC_AT_B, ids(keys)).status == 401
    assert b.ask("sae-b1", "POST", DEC_AT_B, ids(keys)).json["keys"] == keys


def test_another_masters_key_is_not_found(pair):
    a, b = pair
    keys = new_keys(a, "sae-a1", ENC_AT_A)

    answer = b.ask("sae-b1", "POST", "/api/v1/keys/sae-a2/dec_keys", ids(keys))

    assert answer.status in (400, 401)
    assert b.ask("sae-b1", "POST", DEC_AT_B, ids(keys)).json["keys"] == keys


def test_both_slaves_of_a_multicast_get_the_key_once_each(pair):
    a, b = pair
    keys = new_keys(a, "sae-a1", ENC_AT_A, additional_slave_SAE_IDs=["sae-b2"])

    for sae in ("sae-b1", "sae-b2"):
        assert b.ask(sae, "POST", DEC_AT_B, ids(keys)).json["keys"] == keys
        assert b.ask(sae, "POST", DEC_AT_B, ids(keys)).status == 400


def test_the_masters_own_kme_does_not_give_the_key_again(pair):
    a, _ = pair
    keys = new_keys(a, "sae-a1", ENC_AT_A)

    answer = a.ask("sae-a2", "POST", "/api/v1/keys/sae-b1/dec_keys", ids(keys))

    assert answer.status in (400, 401)


def test_deliveries_are_counted_at_both_sites(pair):
    a, b = pair
    before = metric(a, "keyferry_keys_delivered_total"), metric(b, "keyferry_keys_delivered_total")
    keys = new_keys(a, "sae-a1", ENC_AT_A, number=2)
    b.ask("sae-b1", "POST", DEC_AT_B, ids(keys))

    assert metric(a, "keyferry_keys_delivered_total") == before[0] + 2
    assert metric(b, "keyferry_keys_delivered_total") == before[1] + 2


def test_the_slaves_kme_asks_when_it_was_not_told(sites):
    """A's outbox reaches nobody, so B has to pull."""
    a = sites.start("a", peer_url=NOBODY)
    b = sites.start("b", peer_url=f"https://127.0.0.1:{a.port}")
    keys = new_keys(a, "sae-a1", ENC_AT_A, number=2)

    assert b.ask("sae-b1", "POST", DEC_AT_B, ids(keys)).json["keys"] == keys


def test_the_slaves_kme_was_told_when_it_cannot_ask(sites):
    """B can ask nobody, so the keys that it serves came with A's outbox."""
    b = sites.start("b", peer_url=NOBODY)
    a = sites.start("a", peer_url=f"https://127.0.0.1:{b.port}")
    keys = new_keys(a, "sae-a1", ENC_AT_A, number=2)

    eventually(lambda: b.ask("sae-b1", "POST", DEC_AT_B, ids(keys)).json.get("keys") == keys)


def test_an_allocator_that_is_away_is_503_and_later_the_key_comes(sites):
    a = sites.start("a", peer_url=NOBODY, store="sqlite")
    b = sites.start("b", peer_url=f"https://127.0.0.1:{a.port}")
    keys = new_keys(a, "sae-a1", ENC_AT_A)
    a.stop()

    away = b.ask("sae-b1", "POST", DEC_AT_B, ids(keys))
    sites.start("a", port=a.port, peer_url=NOBODY, store="sqlite")
    back = b.ask("sae-b1", "POST", DEC_AT_B, ids(keys))

    assert away.status == 503
    assert int(away.headers["Retry-After"]) >= 1
    assert back.json["keys"] == keys


def test_a_site_that_was_away_is_told_when_it_returns(sites):
    b = sites.start("b", peer_url=NOBODY, store="sqlite")
    a = sites.start("a", peer_url=f"https://127.0.0.1:{b.port}", store="sqlite")
    b.stop()
    keys = new_keys(a, "sae-a1", ENC_AT_A, number=4)
    time.sleep(1.0)
    b = sites.start("b", port=b.port, peer_url=NOBODY, store="sqlite")

    eventually(lambda: b.ask("sae-b1", "POST", DEC_AT_B, ids(keys)).json.get("keys") == keys)


def test_a_restart_forgets_nothing_that_left(sites):
    a, b = sites.pair(store="sqlite")
    taken, left = new_keys(a, "sae-a1", ENC_AT_A), new_keys(a, "sae-a1", ENC_AT_A)
    assert b.ask("sae-b1", "POST", DEC_AT_B, ids(taken)).status == 200
    for site in (a, b):
        site.process.kill()
        site.process.wait()
    a = sites.start("a", **restarted(a))
    b = sites.start("b", **restarted(b))

    assert b.ask("sae-b1", "POST", DEC_AT_B, ids(taken)).message == NOT_FOUND
    assert b.ask("sae-b1", "POST", DEC_AT_B, ids(left)).json["keys"] == left
    known = {key["key"] for key in taken + left}
    assert known.isdisjoint(key["key"] for key in new_keys(a, "sae-a1", ENC_AT_A, number=40))


def restarted(site):
    return {name: site.settings[name] for name in ("port", "peer_url", "store")}
