"""Which version of a Transit key is which generation, kept in a KV secret.

A Transit key has no room for notes. The record is one version of a KV secret, replaced as a whole
by check-and-set; its data are strings only: ``transit_key``, whose record it is, and under each
native version ``"<generation> <key ID>"``. No key is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hvac

from qkd_core.errors import SinkRejected
from qkd_core.types.ids import Generation, KeyId
from qkd_kms_adapters.vault_secret import Metadata, VersionedSecret, number

LONGEST = 64  # entries; the oldest ones are dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    native: int
    generation: Generation
    key_id: KeyId


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """By rising native version, and by rising generation, too."""

    entries: tuple[Entry, ...]
    metadata: Metadata

    @property
    def newest(self) -> Entry | None:
        return self.entries[-1] if self.entries else None

    @property
    def held(self) -> Generation:
        """The newest generation that was ever seen here."""
        return max(self.newest.generation if self.newest else Generation(0), self.metadata.agreed)

    def entry(self, generation: Generation) -> Entry | None:
        return next((each for each in self.entries if each.generation == generation), None)


class RecordSecret:
    """Reads and writes the record of ``key``. Raises what the client library raises."""

    def __init__(self, secret: VersionedSecret, key: str) -> None:
        self.secret = secret
        self._key = key

    def read(self, client: hvac.Client) -> Record:
        """Raises SinkRejected when something else stands there: it would be taken for no record."""
        metadata = self.secret.metadata(client)
        if not metadata.head:
            return Record(entries=(), metadata=metadata)
        data = self.secret.data(client, metadata.head)
        entries = entries_of(data) if data.get("transit_key") == self._key else None
        if entries is None:
            raise SinkRejected(
                f"{self.secret}: version {metadata.head} is not the record of {self._key}:"
                " write the version before it again"
            )
        return Record(entries=entries, metadata=metadata)

    def add(self, client: hvac.Client, record: Record, entry: Entry) -> None:
        """Raises Overtaken when the record is no longer as it was read."""
        kept = (*record.entries, entry)[-LONGEST:]
        data = {str(each.native): f"{each.generation} {each.key_id}" for each in kept}
        self.secret.write(client, {"transit_key": self._key} | data, record.metadata.head)


def entries_of(data: Mapping[str, Any]) -> tuple[Entry, ...] | None:
    """None unless every entry is one, and they rise."""
    entries = []
    for native, text in data.items():
        if native == "transit_key":
            continue
        generation, _, key_id = str(text).partition(" ")
        if not number(native) or not number(generation) or not key_id:
            return None
        entries.append(
            Entry(
                native=number(native),
                generation=Generation(number(generation)),
                key_id=KeyId(key_id),
            )
        )
    entries.sort(key=lambda each: each.native)
    rising = [each.generation for each in entries]
    return tuple(entries) if rising == sorted(set(rising)) else None
