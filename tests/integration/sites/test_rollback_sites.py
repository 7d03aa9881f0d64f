"""Sites that are put back from a copy, killed, cut off from power: nothing goes out twice."""

import json
import subprocess
import threading
import time
from contextlib import closing

from keyferry.bootstrap.stores import store_of
from keyferry.processes.supervisor import keyferry_command
from qkd_core.types.ids import Side


def refused_for(pair, side, seconds):
    """Nothing is delivered, neither new keys nor held ones, however often one asks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status, _ = pair.call(side, "enc_keys")
        assert status in (0, 503), status
        time.sleep(0.2)


def test_copies_that_are_put_back_give_nothing_away_again(pair):
    """Taken while deliveries go on, before and after the last exchange, with and without memory."""
    for side in Side:
        pair.start(side)
    pair.open()
    stop = threading.Event()

    def deliver_on() -> None:
        while not stop.is_set():
            for key in pair.fetch(Side.A, 5):
                pair.fetch_by_id(Side.B, key)

    worker = threading.Thread(target=deliver_on)
    worker.start()
    time.sleep(1.0)
    pair.copy(Side.A, "early")
    time.sleep(1.0)
    stop.set()
    worker.join()
    held = pair.until(lambda: pair.fetch(Side.B), "a key for A")[0]
    assert pair.fetch_by_id(Side.A, held)[0] == 200

    # Before the last exchange: the peer knows, though the machine has forgotten.
    pair.cut_power(Side.A)
    pair.copy(Side.A, "true")
    pair.put_back(Side.A, "early")
    pair.start(Side.A)
    pair.until(lambda: pair.metric(Side.A, "keyferry_rolled_back") == 1, "the alarm")
    refused_for(pair, Side.A, 3.0)
    assert pair.fetch_by_id(Side.A, held)[0] in (0, 503)
    assert pair.events(Side.A, "rolled_back")
    assert b"ROLLED BACK" in pair.state.log("api-a").read_bytes()
    pair.kill(Side.A)

    # The true one, after the last exchange: what was open is passed over, the rest goes on.
    pair.cut_power(Side.A)
    pair.put_back(Side.A, "true")
    pair.start(Side.A)
    later = pair.until(lambda: pair.fetch(Side.A, 50), "new keys")
    assert pair.fetch_by_id(Side.A, held)[0] == 400
    pair.until(lambda: pair.fetch_by_id(Side.B, later[0])[0] == 200, "the same key at B")
    assert pair.events(Side.A, "site_opened")[-1]["proof"] == "none"
    passed = pair.metric(Side.A, "keyferry_passed_over_bytes_total")
    assert 0 < passed <= 65536


def test_a_copy_put_back_during_a_partition_gives_nothing_away_again(pair):
    for side in Side:
        pair.start(side)
    pair.open()
    pair.until(lambda: pair.fetch(Side.A, 100), "a run")
    pair.kill(Side.B)
    pair.copy(Side.A, "mid")
    assert pair.fetch(Side.A, 100), "within its run a site delivers without its peer"
    pair.kill(Side.A)
    pair.put_back(Side.A, "mid")
    pair.start(Side.A)
    pair.until(lambda: pair.call(Side.A, "enc_keys")[0] == 503, "an answer")
    refused_for(pair, Side.A, 2.0)
    assert pair.metric(Side.A, "keyferry_rolled_back") == 1  # the machine remembers

    pair.cut_power(Side.A)  # and now it does not: only the runs protect what was given away
    pair.put_back(Side.A, "mid")
    pair.start(Side.A)
    pair.until(lambda: pair.call(Side.A, "enc_keys")[0] == 503, "an answer")
    refused_for(pair, Side.A, 2.0)
    pair.start(Side.B)
    pair.until(lambda: pair.fetch(Side.A, 100), "new keys")


def test_an_orderly_stop_loses_nothing_and_a_loss_of_power_little(pair):
    for side in Side:
        pair.start(side, "kme")
    pair.open()
    kept = pair.until(lambda: pair.fetch(Side.A, 3), "keys")
    time.sleep(1.5)  # B is told
    pair.stop(*Side)
    for side in Side:
        pair.cut_power(side)
        pair.start(side)
    pair.until(lambda: pair.fetch_by_id(Side.B, kept[0]) == (200, {"keys": [kept[0]]}), "a key")
    pair.open()
    for side in Side:
        assert pair.events(side, "site_opened")[-1]["proof"] == "closed"
        assert pair.metric(side, "keyferry_passed_over_bytes_total") == 0

    # Killed, on a machine that runs on: nothing is lost either.
    for side in Side:
        pair.kill(side)
    for side in Side:
        pair.start(side)
    pair.until(lambda: pair.fetch_by_id(Side.B, kept[1]) == (200, {"keys": [kept[1]]}), "a key")
    pair.open()
    for side in Side:
        assert pair.metric(side, "keyferry_passed_over_bytes_total") == 0

    # Without power: a run at most, and the keys that were not fetched; both sites know it.
    for side in Side:
        pair.cut_power(side)
    for side in Side:
        pair.start(side)
    pair.open()
    assert pair.fetch_by_id(Side.B, kept[2])[0] == 400
    for side in Side:
        assert 0 < pair.metric(side, "keyferry_passed_over_bytes_total") <= 2 * 65536
        assert pair.events(side, "peer_unclean_start")


def ordered(pair, side, *words):
    """What `keyferry` answers to an order at the side's site."""
    order, *more = words
    command = keyferry_command(order, str(pair.settings[side].file), *more, "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_operator_of_a_site_that_is_rolled_back_sees_it_and_can_erase_it(pair):
    pair.start(Side.B)
    with closing(store_of(pair.settings[Side.A], "cli", witnessed=False)) as store:
        store.witness.roll_back("a copy was put back")
    status = ordered(pair, Side.A, "status")
    assert status["witness"]["state"] == "rolled_back"
    assert status["alarms"]["rolled_back"] == 1

    asked = ordered(pair, Side.A, "zeroise", "--site")
    done = ordered(pair, Side.A, "zeroise", "--site", "--confirm", asked["code"])
    assert done["peer_told"] is False  # what an older site says counts for nothing
    assert not pair.settings[Side.A].root_key.exists()
