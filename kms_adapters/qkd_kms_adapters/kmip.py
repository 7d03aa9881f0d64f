"""Keys as symmetric key objects of a KMIP server: pre-active, active, then deactivated.

An object is named ``NAME.GENERATION`` and is in the object group ``NAME``. Its application
specific information says in the namespace ``keyferry``: generation, key ID and provenance; and in
``keyferry-agreed``, ``no`` or ``yes``. KMIP's identifiers have no order, so the native version of
a key is its generation.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Final

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.kmip_tls import KmipLogin
from qkd_kms_adapters.kmip_wire import (
    ACTIVE,
    PRE_ACTIVE,
    KmipCalls,
    KmipObject,
    NewKey,
)
from qkd_kms_adapters.targets import Servers

log = logging.getLogger(__name__)

KEY_NOTE, AGREED_NOTE = "keyferry", "keyferry-agreed"
NOTE = re.compile(r"([1-9][0-9]{0,17}) (\S+) (\S+)")  # generation, key ID, provenance
NAME = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
NEEDED = frozenset({"REGISTER", "LOCATE", "GET", "GET_ATTRIBUTES", "ACTIVATE", "REVOKE", "DESTROY"})

CIPHER, MAC = ("ENCRYPT", "DECRYPT"), ("MAC_GENERATE", "MAC_VERIFY")
TYPED: Final[Mapping[KeyAlgorithm, tuple[str, tuple[str, ...]]]] = {
    KeyAlgorithm.AES_GCM: ("AES", CIPHER),
    KeyAlgorithm.CHACHA20_POLY1305: ("CHACHA20_POLY1305", CIPHER),
    KeyAlgorithm.HMAC_SHA256: ("HMAC_SHA256", MAC),
}
"""KMIP's name of each algorithm, and what its keys may be used for. A raw key has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """One object that a KME registered under a name of this target."""

    uid: str
    generation: Generation
    key_id: KeyId
    state: object
    agreed: bool
    agreed_index: int

    @property
    def stands(self) -> bool:
        """It is, or once was, what consumers use: not merely prepared."""
        return self.state is not PRE_ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class KmipTarget:
    """The objects named after ``name`` at one server.

    ``destroy_retired``: destroy what is retired, instead of keeping it deactivated.
    """

    login: KmipLogin
    name: str
    destroy_retired: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME, self.name):
            raise ConfigError(f"KMIP name {self.name!r}: must match {NAME}")

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "KmipTarget":
        return cls(
            login=KmipLogin.from_settings(table, folder),
            name=table.text("name", pattern=NAME),
            destroy_retired=table.flag("destroy_retired", False),
        )

    @property
    def server(self) -> str:
        return self.login.url

    @property
    def places(self) -> tuple[str, ...]:
        return (self.name,)

    def check(self, policy: RefreshPolicy) -> None:
        """A KMIP key has an algorithm: that of a raw key would be a guess. Raises ConfigError."""
        if policy.algorithm not in TYPED:
            raise ConfigError(
                f"a kmip target types its keys: algorithm {policy.algorithm},"
                f" must be one of {', '.join(TYPED)}"
            )

    def sink(self, policy: RefreshPolicy, servers: Servers) -> "KmipSink":
        self.check(policy)
        return KmipSink(self.login, self.name, policy.algorithm, self.destroy_retired)


class KmipSink:
    """Implements ReadableSink. Each call has a connection of its own."""

    def __init__(
        self, login: KmipLogin, name: str, algorithm: KeyAlgorithm, destroy_retired: bool
    ) -> None:
        self._login, self._name = login, name
        self._algorithm, self._usage = TYPED[algorithm]
        self._destroy_retired = destroy_retired
        self._where = f"KMIP {login.host}:{login.port} {name}"

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        """Register the key pre-active, and touch its notes, so that `agree` will be able to."""
        with self._calls(f"preparing generation {generation}") as calls:
            missing = NEEDED - calls.operations()
            if missing:
                raise SinkRejected(f"{self._where}: the server lacks {', '.join(sorted(missing))}")
            self._refuse_older(calls, generation, or_equal=True)
            self._sweep(calls, generation)
            held = self._under(calls, generation)
            self._refuse_others(calls, held, key)
            if not held:
                self._register(calls, key, generation)
                held = self._under(calls, generation)
            for each in held:
                calls.write_note(each.uid, each.agreed_index, AGREED_NOTE, "no")

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        with self._calls(f"key {key.key_id} as generation {generation}") as calls:
            held = self._under(calls, generation)
            self._refuse_others(calls, held, key)
            if not any(each.stands for each in held):
                self._refuse_older(calls, generation)
                calls.activate(held[0].uid if held else self._register(calls, key, generation))
            self._keep_one(calls, key, generation)
        return generation

    def agree(self, generation: Generation) -> None:
        with self._calls(f"agreeing on generation {generation}") as calls:
            held = [each for each in self._under(calls, generation) if each.stands]
            if not held:
                raise SinkRejected(
                    f"{self._where}: generation {generation} is not here to agree on"
                )
            for each in held:
                if not each.agreed:
                    calls.write_note(each.uid, each.agreed_index, AGREED_NOTE, "yes")

    def abandon(self, generation: Generation) -> None:
        with self._calls(f"giving up generation {generation}") as calls:
            for each in self._under(calls, generation):
                if not each.stands:
                    calls.destroy(each.uid)

    def retire(self, generation: Generation) -> None:
        with self._calls(f"retiring generation {generation}") as calls:
            agreed = [each.generation for each in self._standing(calls) if each.agreed]
            if max(agreed, default=0) <= generation:
                raise SinkRejected(f"{self._where}: nothing newer than {generation} is agreed on")
            for each in self._under(calls, generation):
                if each.state is ACTIVE:
                    calls.revoke(each.uid)
                if self._destroy_retired:
                    calls.destroy(each.uid)

    def state(self) -> tuple[Generation, int]:
        with self._calls("reading") as calls:
            newest = self._newest(calls)
        return newest, newest

    def versions(self) -> tuple[SinkVersion, ...]:
        """The active ones; the native version of an object that no KME registered is 0."""
        with self._calls("listing") as calls:
            active = [calls.look(uid) for uid in calls.locate(group=self._name, state=ACTIVE)]
        ours = self._ours(active)
        foreign = [SinkVersion(native=0, generation=Generation(0))] * (len(active) - len(ours))
        generations = sorted({each.generation for each in ours})
        return (*foreign, *(SinkVersion(native=each, generation=each) for each in generations))

    def read(self, generation: Generation) -> bytes | None:
        with self._calls(f"reading generation {generation}") as calls:
            for each in self._under(calls, generation):
                if each.stands:
                    return calls.get(each.uid)
        return None

    def _calls(self, doing: str) -> KmipCalls:
        return KmipCalls(self._login, f"{self._where}: {doing}")

    def _register(self, calls: KmipCalls, key: DeliveredKey, generation: Generation) -> str:
        """Register the key and read it back, while no consumer may use it yet."""
        new = NewKey(
            name=self._name_of(generation),
            group=self._name,
            algorithm=self._algorithm,
            usage=self._usage,
            secret=key.secret,
            notes={KEY_NOTE: f"{generation} {key.key_id} {key.provenance}", AGREED_NOTE: "no"},
        )
        uid = calls.register(new)
        if not compare_digest(calls.get(uid), key.secret):
            calls.destroy(uid)
            raise SinkUnavailable(f"{self._where}: object {uid} does not read back as written")
        return uid

    def _keep_one(self, calls: KmipCalls, key: DeliveredKey, generation: Generation) -> None:
        """One active object of a generation: a request whose reply was lost may have come late."""
        held = self._under(calls, generation)
        self._refuse_others(calls, held, key)
        standing = [each for each in held if each.stands]
        if not standing:
            raise SinkUnavailable(f"{self._where}: generation {generation} is not active")
        kept = next((each for each in standing if each.state is ACTIVE), None)
        if kept is None:
            raise SinkRejected(f"{self._where}: generation {generation} was revoked by somebody")
        for each in held:
            if each is kept:
                continue
            log.warning("%s: object %s doubles %s", self._where, each.uid, kept.uid)
            if each.state is ACTIVE:
                calls.revoke(each.uid)
            elif not each.stands:
                calls.destroy(each.uid)

    def _sweep(self, calls: KmipCalls, generation: Generation) -> None:
        """Destroy what earlier runs prepared and never published."""
        for each in self._ours(
            calls.look(u) for u in calls.locate(group=self._name, state=PRE_ACTIVE)
        ):
            if each.generation < generation and not each.stands:
                calls.destroy(each.uid)

    def _refuse_older(
        self, calls: KmipCalls, generation: Generation, *, or_equal: bool = False
    ) -> None:
        newest = self._newest(calls)
        if newest > generation or (or_equal and newest == generation):
            raise GenerationConflict(f"{self._where}: generation {newest} is already there")

    def _refuse_others(self, calls: KmipCalls, held: Sequence[_Held], key: DeliveredKey) -> None:
        """Raise GenerationConflict unless all of ``held`` are ``key``."""
        for each in held:
            if each.key_id != key.key_id or not compare_digest(calls.get(each.uid), key.secret):
                raise GenerationConflict(
                    f"{self._where}: generation {each.generation} is another key"
                )

    def _newest(self, calls: KmipCalls) -> Generation:
        return max((each.generation for each in self._standing(calls)), default=Generation(0))

    def _standing(self, calls: KmipCalls) -> list[_Held]:
        """The active objects; when there are none, all that ever were and are not destroyed."""
        active = self._ours(calls.look(u) for u in calls.locate(group=self._name, state=ACTIVE))
        if active:
            return active
        every = self._ours(calls.look(uid) for uid in calls.locate(group=self._name))
        return [each for each in every if each.stands]

    def _under(self, calls: KmipCalls, generation: Generation) -> list[_Held]:
        """All objects with the name of ``generation``, the earliest first.

        Raises GenerationConflict when one of them is not a KME's.
        """
        held: list[_Held] = []
        for uid in calls.locate(name=self._name_of(generation)):
            found = self._parsed(calls.look(uid))
            if found is None or found.generation != generation:
                raise GenerationConflict(
                    f"{self._where}: object {uid} has the name of generation {generation}"
                    " and is not a KME's"
                )
            held.append(found)
        return sorted(held, key=lambda each: (len(each.uid), each.uid))

    def _ours(self, seen: Iterable[KmipObject]) -> list[_Held]:
        return [held for held in map(self._parsed, seen) if held is not None]

    def _parsed(self, seen: KmipObject) -> _Held | None:
        """None for an object that a KME did not register."""
        _, data = seen.notes.get(KEY_NOTE, (0, ""))
        agreed_index, agreed = seen.notes.get(AGREED_NOTE, (0, ""))
        words = NOTE.fullmatch(data)
        if words is None or not agreed:
            return None
        generation = Generation(int(words[1]))
        if self._name_of(generation) not in seen.names:
            return None
        return _Held(
            uid=seen.uid,
            generation=generation,
            key_id=KeyId(words[2]),
            state=seen.state,
            agreed=agreed == "yes",
            agreed_index=agreed_index,
        )

    def _name_of(self, generation: Generation) -> str:
        return f"{self._name}.{generation}"
