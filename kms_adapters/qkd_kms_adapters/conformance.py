"""What every KeySink promises, as checks against a new sink on an empty place.

Each check takes the sink and raises AssertionError when a promise is broken. Keys have 256 bits.
`READABLE_CHECKS` are for sinks whose keys can be read back.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from qkd_core.errors import GenerationConflict, SinkRejected
from qkd_core.ports import KeySink, ReadableSink
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
    key = a_key()
    sink.prepare(key, generation(1))
    sink.prepare(key, generation(1))
    assert sink.state() == (0, 0)


def what_was_prepared_is_published(sink: KeySink) -> None:
    key = a_key()
    sink.prepare(key, generation(1))
    native = sink.publish(key, generation(1))
    assert sink.state() == (1, native)


def what_was_given_up_leaves_the_place_for_the_next(sink: KeySink) -> None:
    sink.prepare(a_key(), generation(1))
    sink.abandon(generation(1))
    sink.abandon(generation(1))
    assert sink.state() == (0, 0)
    key = a_key()
    sink.prepare(key, generation(2))
    native = sink.publish(key, generation(2))
    assert sink.state() == (2, native)


def giving_up_erases_nothing_that_was_published(sink: KeySink) -> None:
    native = sink.publish(a_key(), generation(1))
    sink.abandon(generation(1))
    sink.abandon(generation(2))
    assert sink.state() == (1, native)


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
    key = a_key()
    sink.prepare(key, generation(4))
    native = sink.publish(key, generation(4))
    assert sink.state() == (4, native)


def an_older_generation_conflicts(sink: KeySink) -> None:
    native = sink.publish(a_key(), generation(3))
    must_conflict(lambda: sink.prepare(a_key(), generation(2)))
    must_conflict(lambda: sink.prepare(a_key(), generation(3)))
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


def versions_are_listed_as_they_were_published(sink: KeySink) -> None:
    assert sink.versions() == ()
    natives = [sink.publish(a_key(), generation(number)) for number in (1, 2, 4)]
    listed = [(each.native, each.generation) for each in sink.versions()]
    assert listed == list(zip(natives, (1, 2, 4), strict=True))


def retiring_ends_an_earlier_generation_only(sink: KeySink) -> None:
    first, second = a_key(), a_key()
    sink.publish(first, generation(1))
    sink.agree(generation(1))
    native = sink.publish(second, generation(2))
    sink.agree(generation(2))
    sink.retire(generation(1))
    sink.retire(generation(1))
    assert sink.state() == (2, native)
    assert sink.publish(second, generation(2)) == native


def what_is_agreed_is_not_retired(sink: KeySink) -> None:
    native = sink.publish(a_key(), generation(1))
    sink.agree(generation(1))
    try:
        sink.retire(generation(1))
    except SinkRejected:
        pass
    assert sink.state() == (1, native)


def a_key_is_read_back(sink: ReadableSink) -> None:
    assert sink.read(generation(1)) is None
    first, second = a_key(), a_key()
    sink.publish(first, generation(1))
    sink.publish(second, generation(2))
    assert sink.read(generation(1)) == first.secret
    assert sink.read(generation(2)) == second.secret
    assert sink.read(generation(3)) is None


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
    what_was_prepared_is_published,
    what_was_given_up_leaves_the_place_for_the_next,
    giving_up_erases_nothing_that_was_published,
    publishing_tells_the_native_version,
    publishing_again_changes_nothing,
    other_bytes_conflict,
    generations_go_up_and_may_skip,
    an_older_generation_conflicts,
    agreeing_is_idempotent_and_changes_no_key,
    nobody_agrees_on_what_is_not_there,
    versions_are_listed_as_they_were_published,
    retiring_ends_an_earlier_generation_only,
    what_is_agreed_is_not_retired,
    a_sink_does_not_show_its_keys,
)

READABLE_CHECKS: tuple[Callable[[ReadableSink], None], ...] = (a_key_is_read_back,)
