"""A circuit breaker lets one caller at a time try what does not answer."""

import pytest

from keyferry.refresh.breaker import OPENS_AFTER, Breaker
from keyferry.retrying import FIRST_S, Backoff
from qkd_core.errors import PeerSilent, PeerUnavailable, SinkRejected, SinkUnavailable


class Dial:
    """A KMS of which a test says what it does, and the breaker before it."""

    def __init__(self):
        self.time = 0.0
        self.calls = 0
        self.outcome = SinkUnavailable("down")
        self.breaker = Breaker("kms", SinkUnavailable, Backoff(lambda: self.time, lambda: 0.5))

    def call(self):
        with self.breaker.around():
            self.calls += 1
            if self.outcome is not None:
                raise self.outcome

    def fails(self):
        with pytest.raises(SinkUnavailable) as caught:
            self.call()
        return str(caught.value)

    def opened(self):
        for _ in range(OPENS_AFTER):
            self.fails()
        return self


def test_it_opens_after_three_failures_in_a_row_and_then_nothing_is_called():
    dial = Dial().opened()
    assert dial.breaker.is_open and not dial.breaker.may_try()
    assert dial.fails() == "kms does not answer; it is tried now and then"
    assert dial.calls == OPENS_AFTER


@pytest.mark.parametrize("answer", [None, SinkRejected("denied")])
def test_an_answer_between_failures_starts_the_count_again(answer):
    dial = Dial()
    for _ in range(OPENS_AFTER - 1):
        dial.fails()
    dial.outcome, answered = answer, None
    try:
        dial.call()
    except SinkRejected as error:
        answered = error
    assert answered is answer
    dial.outcome = SinkUnavailable("down")
    for _ in range(OPENS_AFTER - 1):
        dial.fails()
    assert not dial.breaker.is_open


def test_one_probe_at_a_time_at_a_slowing_pace_and_an_answer_closes_it():
    dial = Dial().opened()
    dial.time += FIRST_S
    assert dial.breaker.may_try()
    with pytest.raises(SinkUnavailable, match="slow"), dial.breaker.around():
        assert not dial.breaker.may_try(), "one is under way"
        assert "now and then" in dial.fails()
        raise SinkUnavailable("slow")
    dial.time += FIRST_S
    assert not dial.breaker.may_try(), "it waits longer now"
    dial.time += FIRST_S
    dial.outcome = None
    dial.call()
    assert not dial.breaker.is_open and dial.breaker.may_try()


def test_a_defect_in_a_probe_says_nothing_and_lets_the_next_one_try():
    dial = Dial().opened()
    dial.time += FIRST_S
    dial.outcome = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        dial.call()
    assert dial.breaker.is_open and dial.breaker.may_try()


def test_its_own_failure_is_of_the_kind_that_it_counts():
    breaker = Breaker("the other site", PeerUnavailable)
    for _ in range(OPENS_AFTER):
        with pytest.raises(PeerSilent), breaker.around():
            raise PeerSilent("no answer")
    with pytest.raises(PeerUnavailable, match="the other site does not answer"), breaker.around():
        raise AssertionError("it was called")
