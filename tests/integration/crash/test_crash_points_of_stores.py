"""A site that is killed at any I/O call of any of its own transitions loses and doubles nothing."""

import pytest


def test_every_call_of_a_sites_own_transitions(walked):
    points = walked("alone")
    assert len(points) == 8
    assert min(points.values()) >= 10


def test_every_call_of_what_happens_to_blocks(walked):
    points = walked("blocks")
    assert len(points) == 6
    assert min(points.values()) >= 10


def test_a_transition_in_two_steps_is_found_out(walked):
    with pytest.raises(AssertionError, match=r"killed at call \d+: a law is broken"):
        walked("broken")
