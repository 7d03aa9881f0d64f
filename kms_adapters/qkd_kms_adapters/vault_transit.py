"""Keys as versions of one key in a Transit engine (OpenBao, HashiCorp Vault), never to be read.

The engine has no check-and-set and no room for notes, so the order is: look at the record and at
the latest version, bring the key in, prove by use which version it became, record that. Killed
before the record, the next try proves that a version without an entry is its key, and records it.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import hvac

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.targets import Servers
from qkd_kms_adapters.vault_login import VaultLogin
from qkd_kms_adapters.vault_secret import Overtaken, VersionedSecret, check_granted, is_path
from qkd_kms_adapters.vault_session import VaultSession
from qkd_kms_adapters.vault_transit_key import KeyState, TransitKey, type_of
from qkd_kms_adapters.vault_transit_record import LONGEST, Entry, Record, RecordSecret

log = logging.getLogger(__name__)

MAX_RACES = 5  # records written by others in a row before the caller is asked to come back later
KEEP, FORBID = "keep", "min_decryption_version"
KEY_NAME = re.compile(r"\w([\w.-]*\w)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultTransitTarget:
    """The key ``name`` of the Transit engine at ``mount``, its record in a KV version 2 secret.

    ``forbids``: whether the engine stops decrypting with a version when its grace is over.
    """

    login: VaultLogin
    mount: str
    name: str
    record_mount: str
    record_path: str
    forbids: bool = False

    def __post_init__(self) -> None:
        if not KEY_NAME.fullmatch(self.name):
            raise ConfigError(f"Transit name {self.name!r}: letters, digits, '_', '-' and '.'")
        for name, value in (
            ("mount", self.mount),
            ("record_mount", self.record_mount),
            ("record_path", self.record_path),
        ):
            if not is_path(value):
                raise ConfigError(f"Transit {name} {value!r}: names joined by single slashes")

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "VaultTransitTarget":
        return cls(
            login=VaultLogin.from_settings(table, folder),
            mount=table.text("mount"),
            name=table.text("name"),
            record_mount=table.text("record_mount"),
            record_path=table.text("record_path"),
            forbids=table.choice("retire", [KEEP, FORBID], KEEP) == FORBID,
        )

    @property
    def server(self) -> str:
        return self.login.url

    @property
    def places(self) -> tuple[str, ...]:
        key = self.login.place(self.mount, self.name)
        return key, self.login.place(self.record_mount, self.record_path)

    def check(self, policy: RefreshPolicy) -> None:
        self._type_of(policy)

    def sink(self, policy: RefreshPolicy, servers: Servers) -> "VaultTransitSink":
        session = servers.get(self.login, lambda: VaultSession(self.login))
        key = TransitKey(self.mount, self.name, self._type_of(policy))
        secret = VersionedSecret(self.record_mount, self.record_path)
        record = RecordSecret(secret, f"{self.mount.strip('/')}/{self.name}")
        return VaultTransitSink(session, key, record, forbids=self.forbids)

    def _type_of(self, policy: RefreshPolicy) -> str:
        found = type_of(policy.algorithm, policy.n_bits)
        if found is None:
            raise ConfigError(
                f"vault-transit: no key of algorithm {policy.algorithm} and {policy.n_bits} bits:"
                " aes-gcm of 128 or 256, chacha20-poly1305, or hmac-sha256"
            )
        return found


class VaultTransitSink:
    """Implements KeySink on one key; native versions are the key's own."""

    def __init__(
        self, session: VaultSession, key: TransitKey, record: RecordSecret, *, forbids: bool = False
    ) -> None:
        self._session = session
        self._key = key
        self._record = record
        self._forbids = forbids

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        what = f"{self._key}: preparing generation {generation}"
        self._session.run(what, self._check)
        self._session.catch_up(what)
        self._session.run(what, lambda client: self._prepare(client, generation))

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        what = f"{self._key}: key {key.key_id} as generation {generation}"
        self._session.catch_up(what)
        for _ in range(MAX_RACES):
            try:
                return self._session.run(
                    what, lambda engine: self._publish(engine, key, generation)
                )
            except Overtaken:
                log.warning("%s: another writer came first, looking again", what)
        raise SinkUnavailable(f"{what}: {MAX_RACES} records in a row came after another writer")

    def agree(self, generation: Generation) -> None:
        what = f"{self._key}: agreeing on generation {generation}"
        self._session.catch_up(what)
        self._session.run(what, lambda client: self._agree(client, generation))

    def abandon(self, generation: Generation) -> None:
        """Nothing is brought in before it is published."""

    def retire(self, generation: Generation) -> None:
        """Forbid the engine to decrypt with it, if the target says so; else nothing changes."""
        if self._forbids:
            what = f"{self._key}: retiring generation {generation}"
            self._session.catch_up(what)
            self._session.run(what, lambda client: self._forbid(client, generation))

    def versions(self) -> tuple[SinkVersion, ...]:
        what = f"{self._key}: listing"
        self._session.catch_up(what)
        return self._session.run(what, self._listed)

    def state(self) -> tuple[Generation, int]:
        """With native version 0 when the newest generation was agreed on and its entry is gone."""
        what = f"{self._key}: reading"
        self._session.catch_up(what)
        record, _ = self._session.run(what, self._look)
        newest = record.newest
        if newest is None or newest.generation < record.held:
            return record.held, 0
        return newest.generation, newest.native

    def _check(self, client: hvac.Client) -> None:
        needed = self._key.needs(configuring=self._forbids) | self._record.secret.needs()
        check_granted(client, needed)
        self._key.check_engine(client)
        self._record.secret.check_engine(client)

    def _look(self, client: hvac.Client) -> tuple[Record, KeyState]:
        """The record and the key, which must be of one age."""
        record, state = self._record.read(client), self._key.state(client)
        newest = record.newest
        if newest is not None and newest.native > state.latest:
            raise SinkRejected(
                f"{self._key}: its latest version is {state.latest}, {self._record.secret} knows"
                f" version {newest.native}: the key was replaced; delete the record, too"
            )
        return record, state

    def _prepare(self, client: hvac.Client, generation: Generation) -> None:
        record, state = self._look(client)
        self._check_newer(record, generation)
        self._check_fit(state)

    def _check_newer(self, record: Record, generation: Generation) -> None:
        if record.held >= generation:
            raise GenerationConflict(f"{self._key}: generation {record.held} is already there")

    def _check_fit(self, state: KeyState) -> None:
        if state.unfit is not None:
            raise SinkRejected(f"{self._key}: takes no key: {state.unfit}")

    def _publish(self, client: hvac.Client, key: DeliveredKey, generation: Generation) -> int:
        record, state = self._look(client)
        entry = record.entry(generation)
        if entry is not None and entry is record.newest:
            if entry.key_id == key.key_id and self._key.has(client, entry.native, key.secret):
                return entry.native  # of an earlier try
            raise GenerationConflict(f"{self._key}: generation {generation} is another key")
        self._check_newer(record, generation)
        first = max(record.newest.native if record.newest else 0, state.usable - 1) + 1
        native = self._version_of(client, key, first, state.latest)  # of a try that was cut off
        if native is None:
            self._check_fit(state)
            native = self._brought_in(client, key, state)
        added = Entry(native=native, generation=generation, key_id=key.key_id)
        self._record.add(client, record, added)
        return native

    def _brought_in(self, client: hvac.Client, key: DeliveredKey, before: KeyState) -> int:
        """The version that ``key`` became: one more than before, unless others bring in, too."""
        self._key.bring_in(client, key.secret, before)
        latest = self._key.state(client).latest
        native = self._version_of(client, key, before.latest + 1, latest)
        if native is None:
            raise SinkRejected(
                f"{self._key}: no version after {before.latest} acts as key {key.key_id}"
            )
        return native

    def _version_of(
        self, client: hvac.Client, key: DeliveredKey, first: int, last: int
    ) -> int | None:
        """The newest version in ``first`` to ``last`` that is ``key``, by use; None: none is."""
        for native in range(last, first - 1, -1):
            if self._key.has(client, native, key.secret):
                return native
        return None

    def _agree(self, client: hvac.Client, generation: Generation) -> None:
        record, _ = self._look(client)
        if record.metadata.agreed >= generation:
            return
        if record.entry(generation) is None:
            raise SinkRejected(f"{self._key}: generation {generation} is not here to agree on")
        self._record.secret.agree(client, record.metadata, generation)

    def _forbid(self, client: hvac.Client, generation: Generation) -> None:
        record, state = self._look(client)
        if generation >= record.metadata.agreed:
            raise SinkRejected(
                f"{self._key}: generation {generation} is not retired, for none after it is"
                " agreed on"
            )
        entry = record.entry(generation)
        if entry is not None and state.oldest <= entry.native:
            self._key.forbid_before(client, entry.native + 1)

    def _listed(self, client: hvac.Client) -> tuple[SinkVersion, ...]:
        record, state = self._look(client)
        ours = {each.native: each.generation for each in record.entries}
        oldest = state.oldest
        if len(ours) >= LONGEST:  # what is older has lost its entry
            oldest = max(oldest, min(ours))
        return tuple(
            SinkVersion(native=native, generation=ours.get(native, Generation(0)))
            for native in range(oldest, state.latest + 1)
        )
