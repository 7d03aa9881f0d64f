"""What an Eve makes of a message body, and a channel that hands it over."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from qkd_core.types.authentication import MessageKind

LONG = "a\nb" * 2000  # no error repeats all of it
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from([LONG, 10**400, -1, 1 << 62]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=20,
)
NOT_QUITE_JSON = st.sampled_from(
    [b"", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"NaN", b"-Infinity", b"{}"]
)
"""What breaks readers of JSON: too deep, a number of too many digits, numbers that are none."""


@st.composite
def altered(draw: st.DrawFn, body: bytes) -> bytes:
    """``body`` with some bytes changed, cut off or added; perhaps another one of its length."""
    changed = bytearray(body)
    how = draw(st.sampled_from(["bytes", "cut", "extended", "doubled", "other", "short"]))
    if how == "bytes" and changed:
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    elif how == "cut":
        del changed[draw(st.integers(0, len(changed))) :]
    elif how == "extended":
        changed += draw(st.binary(min_size=1, max_size=40))
    elif how == "doubled":
        changed += bytes(changed)
    elif how == "other":
        changed = bytearray(draw(st.binary(min_size=len(body), max_size=len(body))))
    elif how == "short":
        changed = bytearray(draw(st.binary(max_size=20)))
    return bytes(changed)


@st.composite
def altered_json(draw: st.DrawFn, told: dict[str, Any]) -> bytes:
    """The object ``told`` with bytes altered, or with a value, a name or everything replaced."""
    how = draw(st.sampled_from(["bytes", "value", "inner", "gone", "more", "all", "none of it"]))
    name = draw(st.sampled_from(sorted(told)))
    if how == "bytes":
        return draw(altered(json.dumps(told).encode()))
    if how == "none of it":
        return draw(NOT_QUITE_JSON)
    if how == "all":
        return json.dumps(draw(JSON)).encode()
    if how == "gone":
        return json.dumps({key: value for key, value in told.items() if key != name}).encode()
    if how == "inner" and isinstance(told[name], dict) and told[name]:
        inner = draw(st.sampled_from(sorted(told[name])))
        return json.dumps(told | {name: told[name] | {inner: draw(JSON)}}).encode()
    other = draw(st.text(max_size=9)) if how == "more" else name
    return json.dumps(told | {other: draw(JSON)}).encode()


class Saying:
    """A ClassicalChannel whose peer says what it is given, by kind, whatever it is told."""

    def __init__(self, bodies: Mapping[MessageKind, bytes]) -> None:
        self._bodies = bodies

    def send(self, kind: MessageKind, body: Any) -> None:
        pass

    def receive(self, kind: MessageKind) -> bytes:
        return self._bodies[kind]

    def send_tagged(self, kind: MessageKind, body: Any, *, transcript: bool = False) -> None:
        pass

    def receive_tagged(self, kind: MessageKind, *, transcript: bool = False) -> bytes:
        return self._bodies[kind]


class Keeping(Saying):
    """Keeps what it is sent, to learn what a true message looks like."""

    def __init__(self, bodies: Mapping[MessageKind, bytes]) -> None:
        super().__init__(bodies)
        self.kept: dict[MessageKind, bytes] = {}

    def send(self, kind: MessageKind, body: Any) -> None:
        self.kept[kind] = bytes(body)

    def send_tagged(self, kind: MessageKind, body: Any, *, transcript: bool = False) -> None:
        self.kept[kind] = bytes(body)


def refused(reading: Callable[[], object], *errors: type[Exception]) -> bool:
    """Whether it ends in one of ``errors``, with one line of text; any other error is raised."""
    try:
        reading()
    except errors as error:
        assert str(error) and len(str(error)) < 1000 and "\n" not in str(error)
        return True
    return False
