"""Our own file of one end's sifted bits: lines of JSON with the bits between, chained by SHA-256.

They are secret: a file is made with mode 0600, and is not read when anybody but its owner may.

The first line names the stream. Each epoch is a line with its number, counted from 1 without a gap,
and the words of its ``n_key`` key bits and of its ``n_test`` test bits, little-endian uint64. An
epoch's ``sha256`` covers its line without that member, in the canonical form of `native.canonical`,
and the words; ``prev_sha256`` is that of the epoch before, or of the first line. The last line
counts the epochs, so a file that was cut between two of them is seen to be.
"""

import os
import stat
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from qkd_core.errors import ConfigError
from qkd_core.ports.link import Outcomes
from qkd_core.types.bits import PackedBits, n_words, wipe
from qkd_core.types.ids import Provenance, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.formats.json_lines import bytes_left, line_of, object_of, short
from qkd_sim_link.formats.native import canonical, digest
from qkd_sim_link.formats.recording import TagsUnreadable, bytes_in, opened

FORMAT, FORMAT_VERSION = "keyferry-sifted", 1
MODE = 0o600
OTHERS = 0o077
BITS_MAX = 1 << 40  # of a basis of an epoch; what passes it is damage
EPOCH = {"epoch", "n_key", "n_test", "prev_sha256"}
WORD_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SiftedStream:
    """What stays the same throughout a file; other settings are another stream.

    provenance  of the bits when they were recorded
    """

    link: str
    side: Side
    provenance: Provenance
    settings: PairSettings

    def members(self) -> dict[str, Any]:
        """As JSON has them."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return told | {"settings": asdict(self.settings)}


@dataclass(frozen=True, slots=True, eq=False)
class SiftedEpoch:
    """One end's sifted bits of one epoch."""

    number: int
    outcomes: Outcomes = field(repr=False)

    def wipe(self) -> None:
        wipe(self.outcomes.key)
        wipe(self.outcomes.test)


class SiftedWriter:
    """Writes a file epoch by epoch; use it in a ``with`` statement, whose good end ends the file.

    A file without its last line reads as one that was cut short.
    """

    def __init__(self, path: Path, stream: SiftedStream) -> None:
        """Raises OSError: the file exists, or cannot be made."""
        first = first_line(stream)
        self._n_epochs = 0
        self._before = sha256(first).hexdigest()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        self._file: BinaryIO = os.fdopen(descriptor, "wb")
        self._file.write(first + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._file.write(canonical(self._end) + b"\n")
        self._file.close()

    @property
    def _end(self) -> dict[str, Any]:
        return {"end": True, "epochs": self._n_epochs, "sha256": self._before}

    def write(self, outcomes: Outcomes) -> None:
        """Append the next epoch. Raises ConfigError for bits that do not fit their numbers."""
        for bits, n in ((outcomes.key, outcomes.n_key), (outcomes.test, outcomes.n_test)):
            if bits.shape != (n_words(n),) or _beyond(bits, n):
                raise ConfigError(f"{bits.shape} words for {n} bits, zero beyond the last one")
        members = {
            "epoch": self._n_epochs + 1,
            "n_key": outcomes.n_key,
            "n_test": outcomes.n_test,
            "prev_sha256": self._before,
        }
        words = np.concatenate([outcomes.key, outcomes.test]).astype("<u8", copy=False)
        try:
            self._before = digest(members, words.view(np.uint8).data)
            self._file.write(canonical(members | {"sha256": self._before}) + b"\n")
            self._file.write(words.view(np.uint8).data)
        finally:
            wipe(words)
        self._n_epochs += 1


class SiftedFile:
    """One file. Raises TagsUnreadable."""

    def __init__(self, path: Path) -> None:
        bytes_in(path)
        self.path = path
        with opened(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & OTHERS:
                what = f"has mode {mode:04o}: its bits are secret, only its owner may have access"
                raise TagsUnreadable(path, "", what)
            self._first = line_of(file, path)
        first = object_of(self._first, path, "line 1")
        if first.pop("format", None) != FORMAT or first.pop("version", None) != FORMAT_VERSION:
            what = f"is not of format {FORMAT!r}, version {FORMAT_VERSION}"
            raise TagsUnreadable(path, "line 1", what)
        self.stream = self._stream(first)

    def epochs(self) -> Generator[SiftedEpoch, None, None]:
        """Each epoch after its hash was verified, the caller's to wipe. Raises TagsUnreadable."""
        before, n = sha256(self._first).hexdigest(), 0
        with opened(self.path) as file:
            line_of(file, self.path)
            while True:
                place = f"epoch {n + 1:,} at byte {file.tell():,}"
                members = object_of(line_of(file, self.path), self.path, place)
                if "end" in members:
                    self._ended(file, members, n, before)
                    return
                told = members.pop("sha256", None)
                self._check(members, n + 1, place)
                words = self._words(file, members, place)
                if members["prev_sha256"] != before:
                    raise TagsUnreadable(self.path, place, "does not follow the epoch before it")
                before = digest(members, words.view(np.uint8).data)
                if told != before:
                    raise TagsUnreadable(self.path, place, "its hash is not that of its content")
                n += 1
                yield SiftedEpoch(n, self._outcomes(words, members, place))

    def _check(self, members: Mapping[str, Any], number: int, place: str) -> None:
        if set(members) != EPOCH:
            odd = min(set(members) ^ EPOCH)
            raise TagsUnreadable(self.path, place, f"member {short(odd)}: unknown, or missing")
        for name in ("n_key", "n_test"):
            value = members[name]
            if type(value) is not int or not 0 <= value <= BITS_MAX:
                what = f"{name} is {short(value)}, allowed are 0 to {BITS_MAX}"
                raise TagsUnreadable(self.path, place, what)
        if type(members["epoch"]) is not int or members["epoch"] != number:
            what = f"its number is {short(members['epoch'])}, it is epoch {number}"
            raise TagsUnreadable(self.path, place, what)

    def _words(self, file: BufferedReader, members: Mapping[str, Any], place: str) -> PackedBits:
        n = n_words(members["n_key"]) + n_words(members["n_test"])
        if bytes_left(file) < n * WORD_BYTES:
            raise TagsUnreadable(self.path, place, f"the file ends in {n:,} words")
        words = np.empty(n, "<u8")
        file.readinto(words.view(np.uint8).data)
        return words

    def _outcomes(self, words: PackedBits, members: Mapping[str, Any], place: str) -> Outcomes:
        n_key, n_test = members["n_key"], members["n_test"]
        at = n_words(n_key)
        key, test = words[:at].copy(), words[at:].copy()
        wipe(words)
        if _beyond(key, n_key) or _beyond(test, n_test):
            raise TagsUnreadable(self.path, place, "a bit is set beyond the last one")
        return Outcomes(n_key, n_test, key, test)

    def _ended(self, file: BinaryIO, members: Mapping[str, Any], n: int, before: str) -> None:
        place = f"end after epoch {n:,}"
        if members != {"end": True, "epochs": n, "sha256": before}:
            raise TagsUnreadable(self.path, place, "the last line is not that of these epochs")
        if left := bytes_left(file):
            raise TagsUnreadable(self.path, place, f"{left:,} more bytes follow the last line")

    def _stream(self, members: dict[str, Any]) -> SiftedStream:
        try:
            settings = members.pop("settings")
            members["side"] = Side(members["side"])
            members["provenance"] = Provenance(members["provenance"])
            numbers = all(type(value) in (int, float) for value in settings.values())
            if type(members["link"]) is str and numbers:
                return SiftedStream(settings=PairSettings(**settings), **members)
        except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
            what = f"names no stream: {type(error).__name__}, {short(error)}"
            raise TagsUnreadable(self.path, "line 1", what) from error
        raise TagsUnreadable(self.path, "line 1", "names no stream: a member of another type")


def first_line(stream: SiftedStream) -> bytes:
    """The line that names the stream, without its end; its hash begins the chain."""
    return canonical({"format": FORMAT, "version": FORMAT_VERSION} | stream.members())


def _beyond(words: PackedBits, n_bits: int) -> bool:
    """Whether a bit is set beyond the last one."""
    return bool(n_bits % 64 and words[-1] >> np.uint64(n_bits % 64))
