"""Keys as secret key objects of a PKCS#11 token, sensitive and never extractable.

An object's label is ``LABEL.GENERATION`` and its ID the text ``GENERATION:KEY_ID``. The bytes
cannot be read back: that an object holds a key is proved by use, against the bytes in hand. The
agreed generation is the value of a data object of the application ``keyferry`` with the label
``LABEL``. Handles have no order, so the native version of a key is its generation.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest, digest
from pathlib import Path
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from qkd_core.errors import ConfigError, GenerationConflict, SinkRejected, SinkUnavailable
from qkd_core.types.ids import Generation, KeyId
from qkd_core.types.keys import DeliveredKey
from qkd_core.types.refresh import KeyAlgorithm, RefreshPolicy, SinkVersion
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.pkcs11_token import Pkcs11Library, Pkcs11Login
from qkd_kms_adapters.targets import Servers

log = logging.getLogger(__name__)

APPLICATION = "keyferry"
LABEL = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
ID = re.compile(rb"([1-9][0-9]{0,17}):([!-~]+)")
PROOF_BYTES = 32
FEWEST_BITS, MOST_BITS = 256, 4096  # of a key that is proved by HMAC-SHA-256, as SoftHSM has it

TYPES: Final[Mapping[KeyAlgorithm, KeyType]] = {
    KeyAlgorithm.AES_GCM: KeyType.AES,
    KeyAlgorithm.HMAC_SHA256: KeyType.GENERIC_SECRET,
    KeyAlgorithm.RAW: KeyType.GENERIC_SECRET,
}
PROTECTS: Final = {KeyType.AES: Attribute.ENCRYPT, KeyType.GENERIC_SECRET: Attribute.SIGN}
OPENS: Final = {KeyType.AES: Attribute.DECRYPT, KeyType.GENERIC_SECRET: Attribute.VERIFY}
PROOF: Final = {KeyType.AES: Mechanism.AES_ECB, KeyType.GENERIC_SECRET: Mechanism.SHA256_HMAC}
USES: Final = (
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.SIGN,
    Attribute.VERIFY,
    Attribute.WRAP,
    Attribute.UNWRAP,
    Attribute.DERIVE,
)


@dataclass(frozen=True, slots=True)
class _Held:
    """One key object that a KME made for this target."""

    object: Any
    generation: Generation
    key_id: KeyId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Target:
    """The key objects named after ``label`` on one token.

    ``destroy_retired``: destroy what is retired, instead of keeping it for what it protects.
    """

    login: Pkcs11Login
    label: str
    destroy_retired: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(LABEL, self.label):
            raise ConfigError(f"PKCS#11 label {self.label!r}: must match {LABEL}")

    @classmethod
    def from_settings(cls, table: SettingsTable, folder: Path) -> "Pkcs11Target":
        return cls(
            login=Pkcs11Login.from_settings(table, folder),
            label=table.text("label", pattern=LABEL),
            destroy_retired=table.flag("destroy_retired", False),
        )

    @property
    def server(self) -> str:
        return self.login.url

    @property
    def places(self) -> tuple[str, ...]:
        return (self.label,)

    def check(self, policy: RefreshPolicy) -> None:
        """Raises ConfigError for a key that could not be proved by use."""
        if policy.algorithm not in TYPES:
            raise ConfigError(
                f"a pkcs11 target cannot prove keys of algorithm {policy.algorithm},"
                f" must be one of {', '.join(TYPES)}"
            )
        generic = TYPES[policy.algorithm] is KeyType.GENERIC_SECRET
        if generic and not FEWEST_BITS <= policy.n_bits <= MOST_BITS:
            raise ConfigError(
                f"n_bits {policy.n_bits}: a pkcs11 target takes {policy.algorithm} keys of"
                f" {FEWEST_BITS} to {MOST_BITS} bits"
            )

    def sink(self, policy: RefreshPolicy, servers: Servers) -> "Pkcs11Sink":
        self.check(policy)
        module = self.login.module
        library = servers.get(("pkcs11", module), lambda: Pkcs11Library(module))
        return Pkcs11Sink(
            library,
            self.login,
            self.label,
            TYPES[policy.algorithm],
            destroy_retired=self.destroy_retired,
        )


class Pkcs11Sink:
    """Implements KeySink. All sinks of a process share the token's session, one call at a time."""

    def __init__(
        self,
        library: Pkcs11Library,
        login: Pkcs11Login,
        label: str,
        key_type: KeyType,
        *,
        destroy_retired: bool,
    ) -> None:
        self._library, self._login, self._label = library, login, label
        self._type = key_type
        self._destroy_retired = destroy_retired
        self._where = f"PKCS#11 token {login.token} {label}"

    def prepare(self, key: DeliveredKey, generation: Generation) -> None:
        """Make and use a session object of random bytes, to see that the token would do it.

        Tokens in a FIPS mode, for one, take no keys in the clear.
        """
        what = self._doing(f"preparing generation {generation}")
        with self._library.session(self._login, what) as session:
            newest = self._newest(session)
            if newest >= generation:
                raise GenerationConflict(f"{self._where}: generation {newest} is already there")
            secret = os.urandom(len(key.secret))
            tried = session.create_object(self._template(secret, generation, key, token=False))
            try:
                if not self._holds(tried, secret):
                    raise SinkRejected(f"{what}: an object on trial does not do what its bytes do")
            finally:
                tried.destroy()

    def publish(self, key: DeliveredKey, generation: Generation) -> int:
        what = self._doing(f"key {key.key_id} as generation {generation}")
        with self._library.session(self._login, what) as session:
            held = self._held(session)
            if not self._published(session, held, key, generation):
                newest = max((each.generation for each in held), default=0)
                if newest > generation:
                    raise GenerationConflict(f"{self._where}: generation {newest} is already there")
                self._create(session, key, generation)
        return generation

    def agree(self, generation: Generation) -> None:
        """The new note is there before the old one goes, so that the highest one counts."""
        what = self._doing(f"agreeing on generation {generation}")
        with self._library.session(self._login, what) as session:
            if generation not in {each.generation for each in self._held(session)}:
                raise SinkRejected(
                    f"{self._where}: generation {generation} is not here to agree on"
                )
            notes = self._notes(session)
            agreed = max(notes, default=0)
            if agreed < generation:
                session.create_object(
                    {**self._note_template(), Attribute.VALUE: str(generation).encode()}
                )
                agreed = generation
            for number, note in notes.items():
                if number < agreed:
                    note.destroy()

    def abandon(self, generation: Generation) -> None:
        """`prepare` leaves nothing behind."""

    def retire(self, generation: Generation) -> None:
        """The key decrypts and verifies on, and protects nothing new; or it is destroyed."""
        what = self._doing(f"retiring generation {generation}")
        with self._library.session(self._login, what) as session:
            if max(self._notes(session), default=0) <= generation:
                raise SinkRejected(f"{self._where}: nothing newer than {generation} is agreed on")
            for each in self._held(session):
                if each.generation != generation:
                    continue
                if self._destroy_retired:
                    each.object.destroy()
                elif each.object[PROTECTS[self._type]]:
                    each.object[PROTECTS[self._type]] = False

    def state(self) -> tuple[Generation, int]:
        with self._library.session(self._login, self._doing("reading")) as session:
            newest = self._newest(session)
        return newest, newest

    def versions(self) -> tuple[SinkVersion, ...]:
        """The native version of an object with a label of ours that no KME made is 0."""
        with self._library.session(self._login, self._doing("listing")) as session:
            ours = {each.generation for each in self._held(session)}
            n_foreign = sum(1 for each in self._labelled(session) if self._parsed(each) is None)
        foreign = [SinkVersion(native=0, generation=Generation(0))] * n_foreign
        return (*foreign, *(SinkVersion(native=each, generation=each) for each in sorted(ours)))

    def _doing(self, what: str) -> str:
        return f"{self._where}: {what}"

    def _published(
        self,
        session: pkcs11.Session,
        held: list[_Held],
        key: DeliveredKey,
        generation: Generation,
    ) -> bool:
        """Whether an earlier try made the object. GenerationConflict when another key is there."""
        same = [each for each in held if each.generation == generation]
        label = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: self._name(generation)}
        if len(list(session.get_objects(label))) > len(same):
            raise GenerationConflict(
                f"{self._where}: an object with the label of generation {generation} is not a KME's"
            )
        for each in same:
            if each.key_id != key.key_id or not self._holds(each.object, key.secret):
                raise GenerationConflict(f"{self._where}: generation {generation} is another key")
        for each in same[1:]:
            log.warning("%s: generation %d was there twice", self._where, generation)
            each.object.destroy()
        return bool(same)

    def _create(self, session: pkcs11.Session, key: DeliveredKey, generation: Generation) -> None:
        made = session.create_object(self._template(key.secret, generation, key, token=True))
        if not self._holds(made, key.secret):
            made.destroy()
            raise SinkUnavailable(f"{self._where}: the object does not do what its bytes do")

    def _template(
        self, secret: bytes, generation: Generation, key: DeliveredKey, *, token: bool
    ) -> dict[Attribute, Any]:
        return {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: self._type,
            Attribute.TOKEN: token,
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.MODIFIABLE: True,  # for what `retire` takes away
            Attribute.LABEL: self._name(generation),
            Attribute.ID: f"{generation}:{key.key_id}".encode("ascii"),
            **{use: use in (PROTECTS[self._type], OPENS[self._type]) for use in USES},
            Attribute.VALUE: secret,
        }

    def _holds(self, found: Any, secret: bytes) -> bool:
        """Whether the object undoes what ``secret`` did to random bytes: also a retired one does.

        Two blocks of AES alone, as every token has it; nothing that is computed leaves this call.
        """
        if found[Attribute.KEY_TYPE] != self._type or found[Attribute.VALUE_LEN] != len(secret):
            return False
        plain = os.urandom(PROOF_BYTES)
        mechanism = PROOF[self._type]
        if self._type is not KeyType.AES:
            return bool(found.verify(plain, digest(secret, plain, "sha256"), mechanism=mechanism))
        encryptor = Cipher(algorithms.AES(secret), modes.ECB()).encryptor()  # noqa: S305  no message
        undone = found.decrypt(encryptor.update(plain) + encryptor.finalize(), mechanism=mechanism)
        return compare_digest(undone, plain)

    def _newest(self, session: pkcs11.Session) -> Generation:
        return max((each.generation for each in self._held(session)), default=Generation(0))

    def _held(self, session: pkcs11.Session) -> list[_Held]:
        parsed = (self._parsed(each) for each in self._labelled(session))
        return [each for each in parsed if each is not None]

    def _labelled(self, session: pkcs11.Session) -> list[Any]:
        """The key objects with a label of ours, whoever made them."""
        every = session.get_objects(
            {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.TOKEN: True}
        )
        label = re.compile(re.escape(self._label) + r"\.[1-9][0-9]{0,17}")
        return [each for each in list(every) if label.fullmatch(each[Attribute.LABEL] or "")]

    def _parsed(self, found: Any) -> _Held | None:
        """None for an object that a KME did not make."""
        parts = ID.fullmatch(found[Attribute.ID] or b"")
        if parts is None:
            return None
        generation = Generation(int(parts[1]))
        if found[Attribute.LABEL] != self._name(generation):
            return None
        return _Held(found, generation, KeyId(parts[2].decode("ascii")))

    def _notes(self, session: pkcs11.Session) -> dict[int, Any]:
        """The data objects that say what is agreed, by generation."""
        found = list(session.get_objects(self._note_template()))
        values = ((each, each[Attribute.VALUE]) for each in found)
        return {int(value): each for each, value in values if value.isdigit()}

    def _note_template(self) -> dict[Attribute, Any]:
        return {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: True,
            Attribute.APPLICATION: APPLICATION,
            Attribute.LABEL: self._label,
        }

    def _name(self, generation: Generation) -> str:
        return f"{self._label}.{generation}"
