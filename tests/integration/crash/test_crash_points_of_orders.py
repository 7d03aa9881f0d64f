"""Either site, killed at any I/O call of an order: zeroise, rekey, orphan, burn."""

import pytest


def test_every_call_of_orders_that_destroy_key_at_the_site_that_is_ordered_and_at_the_one_told(
    walked,
):
    points = walked("orders")
    assert len(points) == 8
    assert min(points.values()) >= 15


def test_bytes_that_go_before_their_record_are_found_out(walked):
    with pytest.raises(AssertionError, match=r"killed at call \d+: a law is broken"):
        walked("broken order")
