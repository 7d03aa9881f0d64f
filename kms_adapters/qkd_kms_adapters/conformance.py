"""What every KeySink promises, as checks against a new sink on an empty path.

Each check takes the sink and raises AssertionError when a promise is broken.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from qkd_core.errors import GenerationConflict, SinkRejected
from qkd_core.ports import KeySink
from qkd_core.types.ids import Generation, KeyId, Provenance
from qkd_core.types.keys import DeliveredKey


def a_key() -> DeliveredKey:
    """A new key of 256 bits."""
    return DeliveredKey(
        key_id=KeyId(str(uuid4())), secret=os.urandom(32), provenance=Provenance.SIMULATED
    )


def generation(number: int) -> Generation:
    return Generation(number)


def an_empty_sink_has_no_generation(sink: KeySink) -> None:
    assert sink.state() == (0, 0)


def preparing_changes_nothing(sink: KeySink) -> None:
    sink.prepare(generation(1))
    sink.prepare(generation(1))
    assert sink.state() == (0, 0)


def publishing_tells_the_native_version(sink: KeySink) -> None:
    native = sink.publish(a_key(), generation(1))
    assert native >= 1
    assert sink.state() == (1, native)


def publishing_again_changes_nothing(sink: KeySink) -> None:
    key = a_key()
    native = sink.publish(key, generation(1))
    assert sink.publish(key, generation(1)) == native
    assert sink.state() == (1, native)


def other_bytes_conflict(sink: KeySink) -> None:
    first, second = a_key(), a_key()
    native = sink.publish(first, generation(1))
    must_conflict(lambda: sink.publish(second, generation(1)))
    must_conflict(lambda: sink.publish(replace(first, secret=second.secret), generation(1)))
    must_conflict(lambda: sink.publish(replace(first, key_id=second.key_id), generation(1)))
    assert sink.publish(first, generation(1)) == native, "the first key was overwritten"


def generations_go_up_and_may_skip(sink: KeySink) -> None:
    sink.publish(a_key(), generation(1))
    sink.prepare(generation(4))
    native = sink.publish(a_key(), generation(4))
    assert sink.state() == (4, native)


def an_older_generation_conflicts(sink: KeySink) -> None:
    native = sink.publish(a_key(), generation(3))
    must_conflict(lambda: sink.prepare(generation(2)))
    must_conflict(lambda: sink.prepare(generation(3)))
    must_conflict(lambda: sink.publish(a_key(), generation(2)))
    assert sink.state() == (3, native)


def agreeing_is_idempotent_and_changes_no_key(sink: KeySink) -> None:
    key = a_key()
    native = sink.publish(key, generation(1))
    sink.agree(generation(1))
    sink.agree(generation(1))
    assert sink.state() == (1, native)
    assert sink.publish(key, generation(1)) == native


def nobody_agrees_on_what_is_not_there(sink: KeySink) -> None:
    sink.publish(a_key(), generation(1))
    try:
        sink.agree(generation(2))
    except SinkRejected:
        return
    raise AssertionError("a generation that was never published was agreed on")


def a_sink_does_not_show_its_keys(sink: KeySink) -> None:
    key = a_key()
    sink.publish(key, generation(1))
    try:
        sink.publish(a_key(), generation(1))
    except GenerationConflict as error:
        shown = f"{error} {sink!r}"
    assert key.secret.hex() not in shown
    assert repr(key.secret) not in shown


def must_conflict(call: Callable[[], object]) -> None:
    try:
        call()
    except GenerationConflict:
        return
    raise AssertionError("other bytes or an older generation were accepted")


CHECKS: tuple[Callable[[KeySink], None], ...] = (
    an_empty_sink_has_no_generation,
    preparing_changes_nothing,
    publishing_tells_the_native_version,
    publishing_again_changes_nothing,
    other_bytes_conflict,
    generations_go_up_and_may_skip,
    an_older_generation_conflicts,
    agreeing_is_idempotent_and_changes_no_key,
    nobody_agrees_on_what_is_not_there,
    a_sink_does_not_show_its_keys,
)
