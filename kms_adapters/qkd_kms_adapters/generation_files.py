"""Generations of one key as files, the newest under the name that programs read.

Of a key at ``/etc/app/key`` there are

    /etc/app/key                          what programs read: a hard link to the newest generation
    /etc/app/key.previous                 the one before it until it is retired, where it is kept
    /etc/app/.key.generations/7.key       the same file as /etc/app/key
    /etc/app/.key.generations/7.json      its key ID, provenance and format
    /etc/app/.key.generations/state.json  which generation is the newest, and which one is agreed

One rename of ``key`` publishes: a generation is the newest as soon as its bytes stand there, even
if ``state.json`` could not be written any more.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from qkd_core.errors import GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_kms_adapters.own_folder import PARTIAL, OwnFolder

Record = dict[str, str]
NONE = Generation(0)
STATE = "state.json"
OF_GENERATION = re.compile(rf"([1-9][0-9]*)\.(?:key|json)(?:{re.escape(PARTIAL)})?")


@dataclass(frozen=True, slots=True)
class _Noted:
    """What `STATE` says."""

    newest: Generation = NONE
    agreed: Generation = NONE


class GenerationFiles:
    """The files of one key, while both folders are open."""

    def __init__(self, path: Path, mode: int, parent: OwnFolder, inner: OwnFolder | None) -> None:
        self.path, self._mode = path, mode
        self._parent, self._inner = parent, inner

    def lock(self) -> None:
        """Until they are closed. Raises SinkUnavailable while somebody else writes."""
        if self._inner is not None:
            self._inner.lock()

    def shown(self) -> bytes | None:
        """What programs read."""
        return self._parent.read(self.path.name, self._mode)

    def noted(self) -> _Noted:
        text = self._inner.read(STATE) if self._inner else None
        if text is None:
            return _Noted()
        try:
            said = json.loads(text)
            return _Noted(Generation(int(said["generation"])), Generation(int(said["agreed"])))
        except (ValueError, KeyError, TypeError):
            raise SinkRejected(f"{self.path}: {STATE} is damaged") from None

    def newest(self) -> Generation:
        """Of those that were ever published."""
        noted = self.noted().newest
        shown = self.shown()
        standing = self.generation_of(shown) if shown is not None else None
        return max(noted, standing or NONE)

    def published(self) -> list[Generation]:
        newest = self.newest()
        return [each for each in self._whole() if each <= newest]

    def generation_of(self, content: bytes) -> Generation | None:
        """The last one that has just these bytes."""
        for generation in reversed(self._whole()):
            if compare_digest(self.key(generation) or b"", content):
                return generation
        return None

    def key(self, generation: Generation) -> bytes | None:
        name = f"{generation}.key"
        return self._inner.read(name, self._mode) if self._inner else None

    def record(self, generation: Generation) -> Record:
        """What is said of it; empty when there is none."""
        text = self._inner.read(f"{generation}.json") if self._inner else None
        try:
            return dict(json.loads(text or b"{}"))
        except (ValueError, TypeError):
            raise SinkRejected(f"{self.path}: {generation}.json is damaged") from None

    def refuse_foreign(self) -> None:
        """It may be the only copy of somebody's key. Raises GenerationConflict."""
        shown = self.shown()
        if shown is not None and self.generation_of(shown) is None:
            raise GenerationConflict(
                f"{self.path}: holds a key that is not of this policy; move it away"
            )

    def hold(self, generation: Generation, content: bytes, record: Record) -> None:
        """Durably, where no program looks; any other one that was held in advance is erased."""
        newest, inner = self.newest(), self._made()
        self.erase(lambda each: each > newest and each != generation)
        if (
            compare_digest(self.key(generation) or b"", content)
            and self.record(generation) == record
        ):
            return
        inner.remove(f"{generation}.key")  # before its record: a key is never under another's
        inner.write(f"{generation}.json", json.dumps(record).encode())
        inner.write(f"{generation}.key", content, self._mode)

    def keep_previous(self, generation: Generation) -> None:
        """Leave it beside the file, under a name of its own; nothing when it is gone."""
        if self.key(generation) is not None:
            self._parent.link(self._made(), f"{generation}.key", self._previous)

    def put(self, generation: Generation) -> None:
        """Show ``generation`` to programs, and prove it."""
        content, inner = self.key(generation), self._made()
        if content is None:
            raise SinkRejected(f"{self.path}: generation {generation} is gone from its folder")
        if not compare_digest(self.shown() or b"", content):
            self._parent.link(inner, f"{generation}.key", self.path.name)
        if not compare_digest(self.shown() or b"", content):
            raise SinkUnavailable(f"{self.path}: does not read back as written")
        self.note(newest=generation)

    def note(self, *, newest: Generation | None = None, agreed: Generation | None = None) -> None:
        """Write `STATE`, if it would change."""
        noted = self.noted()
        wanted = _Noted(newest or self.newest(), agreed or noted.agreed)
        if wanted != noted:
            said = {"generation": wanted.newest, "agreed": wanted.agreed}
            self._made().write(STATE, json.dumps(said).encode())

    def erase(self, which: Callable[[Generation], bool]) -> None:
        """Every file of the generations that ``which`` names, the keys first."""
        if self._inner is None:
            return
        doomed = [
            name
            for name in self._inner.names()
            if (found := OF_GENERATION.fullmatch(name)) and which(Generation(int(found[1])))
        ]
        self._inner.remove(*sorted(doomed, key=lambda name: ".key" not in name))

    def drop_previous(self, last: Generation) -> None:
        """Remove the copy of an earlier generation, if it is ``last`` or one before it."""
        kept = self._parent.read(self._previous, self._mode)
        held = self.generation_of(kept) if kept is not None else None
        if held is not None and held <= last:
            self._parent.remove(self._previous)

    @property
    def _previous(self) -> str:
        return f"{self.path.name}.previous"

    def _whole(self) -> list[Generation]:
        """Those with key and record, rising."""
        names = set(self._inner.names()) if self._inner else set()
        whole = [name[:-4] for name in names if name.endswith(".key") and name[0] != "."]
        return sorted(
            Generation(int(each)) for each in whole if each.isdigit() and f"{each}.json" in names
        )

    def _made(self) -> OwnFolder:
        if self._inner is None:
            raise SinkRejected(f"{self.path}: its folder of generations is not there")
        return self._inner
