"""A peer that takes connections and answers nothing: those who do not need it are not harmed."""

import time
from concurrent.futures import ThreadPoolExecutor

from qkd_core.types.ids import Side

AT_ONCE = 24  # more than the API has threads
AT_ONCE_S = 8.0  # one wait for the peer, and what a loaded machine adds; not one a request


def timed(pair, path):
    began = time.monotonic()
    status, _ = pair.call(Side.A, path)
    return status, time.monotonic() - began


def test_while_the_peer_is_frozen_requests_that_need_it_fail_soon_and_others_are_served(pair):
    for side in Side:
        pair.start(side)
    pair.open()
    pair.freeze(Side.B)
    pair.until(lambda: pair.call(Side.A, "enc_keys?number=128")[0] == 503, "the end of the run")

    needing = ["enc_keys?number=128"] * AT_ONCE
    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        served = pool.submit(timed, pair, "status")
        refused = list(pool.map(lambda path: timed(pair, path), needing))
    assert {status for status, _ in refused} == {503}
    assert max(took_s for _, took_s in refused) < AT_ONCE_S
    status, took_s = served.result()
    assert status == 200
    assert took_s < AT_ONCE_S

    pair.thaw(Side.B)
    pair.until(lambda: pair.fetch(Side.A, 128), "keys once the peer answers")
