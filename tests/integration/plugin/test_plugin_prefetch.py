"""Keys fetched ahead: in batches that grow with the reads, each given once, burnt when old."""

import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bao_server import eventually

sys.path.pop(0)

READERS = 16


@pytest.fixture
def role(lasting_mounted, stand_in):
    """Makes a role anew: `role(prefetch=16)`."""
    mount = lasting_mounted(stand_in.url)

    def make(**fields):
        wrote = mount.write("roles/r", {"peer_sae": "sae-b1"} | fields)
        assert wrote.status == 204, wrote.text
        return mount

    return make


def read_many(mount, number, workers=1):
    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(lambda _: mount.read("keys/r"), range(number)))
    assert {answer.status for answer in answers} == {200}
    return [answer.data["key_id"] for answer in answers]


def figures(mount):
    status = mount.read("status/r").data
    return Counter({name: status[name] for name in status if name.startswith("prefetch")})


def test_a_role_that_is_read_often_asks_its_kme_seldom(role, stand_in):
    mount = role(prefetch=16, prefetch_ttl=60)

    read = read_many(mount, 120)

    assert len(set(read)) == 120
    assert stand_in.numbers[0] == 1
    assert max(stand_in.numbers) == 16
    assert len(stand_in.numbers) < 40
    seen = figures(mount)
    assert seen["prefetch_batch"] == 16
    assert seen["prefetch_served"] == 120
    assert sum(stand_in.numbers) == 120 + seen["prefetched"]


def test_a_role_that_is_read_once_fetches_nothing_ahead(role, stand_in):
    read_many(role(), 1)

    assert stand_in.numbers == [1]


def test_a_batch_is_no_larger_than_what_the_kme_gives_at_once(role, stand_in):
    stand_in.max_per_request = 5

    read_many(role(prefetch_ttl=60), 60)

    assert max(stand_in.numbers) == 5


def test_without_prefetch_each_read_asks_for_its_own_key(role, stand_in):
    mount = role(prefetch=0)

    read_many(mount, 24, workers=4)

    assert stand_in.numbers == [1] * 24
    assert figures(mount)["prefetched"] == 0


def test_a_key_that_nobody_reads_in_time_is_burnt_and_counted(role, stand_in):
    mount = role(prefetch=16, prefetch_ttl=1)
    read = read_many(mount, 40, workers=4)

    eventually(lambda: figures(mount)["prefetched"] == 0, "all are burnt")
    seen, fetched = figures(mount), set(stand_in.keys)
    assert seen["prefetch_served"] == 40
    assert seen["prefetch_expired"] == sum(stand_in.numbers) - 40 > 0
    time.sleep(1)  # and the reads are forgotten: the next batch is of one
    (late,) = read_many(mount, 1)

    assert late not in fetched
    assert late not in read
    assert stand_in.numbers[-1] == 1


def test_a_change_of_the_role_burns_what_was_fetched_for_it(role, stand_in):
    mount = role(prefetch=16, prefetch_ttl=60)
    read_many(mount, 40)
    eventually(lambda: figures(mount)["prefetched"] > 0, "some are fetched ahead")
    fetched = set(stand_in.keys)

    role(bits=128)
    fresh = mount.key("r")

    assert fresh["key_id"] not in fetched
    seen = figures(mount)
    assert seen["prefetch_served"] == 41
    assert seen["prefetch_expired"] + seen["prefetched"] == sum(stand_in.numbers) - 41


def test_a_kme_that_fails_meanwhile_costs_no_key_twice(role, stand_in):
    mount = role(prefetch=8, prefetch_ttl=60)
    stand_in.fail_every = 3

    with ThreadPoolExecutor(READERS) as pool:
        answers = list(pool.map(lambda _: mount.read("keys/r"), range(200)))

    given = [answer.data["key_id"] for answer in answers if answer.status == 200]
    assert len(stand_in.numbers) >= 3
    assert {answer.status for answer in answers} <= {200, 503}
    assert len(given) > 50
    assert len(set(given)) == len(given)
    assert figures(mount)["prefetch_served"] == len(given)


def test_no_key_is_given_twice_while_plugins_are_killed_under_many_readers(
    bao, lasting_mounted, pair
):
    """And each is the other site's, byte for byte: with real KMEs."""
    a, b = (
        lasting_mounted(f"https://127.0.0.1:{site.port}", sae)
        for site, sae in zip(pair, ("sae-a2", "sae-b2"), strict=True)
    )
    a.write("roles/r", {"peer_sae": "sae-b2", "prefetch": 16})
    b.write("roles/r", {"peer_sae": "sae-a2"})
    stop, keys, killed = Event(), [], []

    def read_until_told():
        while not stop.is_set():
            answer = a.read("keys/r")
            assert answer.status in (200, 500), answer.text
            if answer.status == 200:
                keys.append(answer.data)

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read_until_told) for _ in range(READERS)]
        try:
            for number in (60, 120, 180):
                eventually(lambda: len(keys) >= number, "keys are read", seconds=60)  # noqa: B023
                killed += set(bao.descendants()).difference(killed)
                os.kill(killed[-1], signal.SIGKILL)
            eventually(lambda: len(keys) >= 240, "keys are read", seconds=60)
        finally:
            stop.set()
        for reader in readers:
            reader.result()

    assert len(killed) == 3
    assert len({key["key_id"] for key in keys}) == len({key["key"] for key in keys}) == len(keys)
    with ThreadPoolExecutor(8) as pool:
        copies = list(pool.map(lambda key: b.key("r", key["key_id"]), keys))
    assert copies == keys
