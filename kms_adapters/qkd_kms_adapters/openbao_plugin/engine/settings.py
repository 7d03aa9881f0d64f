"""What a mount is told once: its KME, and its roles."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from qkd_kms_adapters.openbao_plugin.engine.certificates import (
    Identity,
    check_ca,
    check_pair,
    identity_of,
)
from qkd_kms_adapters.openbao_plugin.engine.fields import (
    BAD_REQUEST,
    Field,
    Kind,
    completed,
    read_fields,
)
from qkd_kms_adapters.openbao_plugin.engine.kme import KmeSettings
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused
from qkd_kms_adapters.openbao_plugin.engine.storage import Damaged

LONGEST_PEM = 65536
HOST = re.compile(r"[a-z0-9._:-]+", re.ASCII)
URL_SHAPE = "https://HOST or https://HOST:PORT, without a path or a user"
PAIR = ("certificate", "private_key")

CONFIG_FIELDS = (
    Field(
        name="url",
        kind=Kind.URL,
        description="The KME of this site.",
        most=1024,
        shape=URL_SHAPE,
        required=True,
    ),
    Field(
        name="certificate",
        kind=Kind.PEM,
        description=(
            "The client certificate that names the SAE to the KME, the authorities between it"
            " and the KME's trust behind it."
        ),
        most=LONGEST_PEM,
        required=True,
    ),
    Field(
        name="private_key",
        kind=Kind.PEM,
        description="The certificate's private key, not encrypted. It is never readable back.",
        most=LONGEST_PEM,
        required=True,
        secret=True,
    ),
    Field(
        name="ca",
        kind=Kind.PEM,
        description="The authorities that the KME's own certificate must come from.",
        most=LONGEST_PEM,
        required=True,
    ),
    Field(
        name="timeout",
        kind=Kind.DURATION,
        description="How long one call to the KME may take in all.",
        default=10,
        least=1,
        most=60,
    ),
)

ROLE_FIELDS = (
    Field(
        name="peer_sae",
        kind=Kind.TEXT,
        description="The SAE at the other site, with whom the keys are shared.",
        least=1,
        most=256,
        pattern=r"(?!\.{1,2}$)\S(.*\S)?",
        shape="an SAE ID of 1 to 256 printable characters, without spaces around it",
        required=True,
    ),
    Field(
        name="bits",
        kind=Kind.INTEGER,
        description="Length of a fresh key. The other side gets the length that was made.",
        default=256,
        least=64,
        most=65536,
        multiple_of=8,
    ),
    Field(
        name="encoding",
        kind=Kind.CHOICE,
        description="How the bytes of a key are written in an answer.",
        default="base64",
        choices=("base64", "hex"),
    ),
    Field(
        name="wrap_required",
        kind=Kind.FLAG,
        description=(
            "Keys leave in a response-wrapping token only, whether the client asks for it or not."
        ),
        default=False,
    ),
    Field(
        name="wrap_ttl",
        kind=Kind.DURATION,
        description=(
            "With wrap_required: how long the token lives. A client may ask for less, not for more."
        ),
        default=300,
        least=1,
        most=86400,
    ),
    Field(
        name="certificate",
        kind=Kind.PEM,
        description=(
            "A client certificate of this role's own, in place of the mount's. Empty together"
            " with private_key: the mount's again."
        ),
        default="",
        most=LONGEST_PEM,
    ),
    Field(
        name="private_key",
        kind=Kind.PEM,
        description="That certificate's private key. It is never readable back.",
        default="",
        most=LONGEST_PEM,
        secret=True,
    ),
    Field(
        name="prefetch",
        kind=Kind.INTEGER,
        description=(
            "How many keys at most are fetched from the KME at once, ahead of being read, as the"
            " reads of late suggest. 0: each read asks the KME."
        ),
        default=64,
        least=0,
        most=128,
    ),
    Field(
        name="prefetch_ttl",
        kind=Kind.DURATION,
        description="After how long a key that nobody read is dropped, and never given out.",
        default=10,
        least=1,
        most=300,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """As `CONFIG_FIELDS` say; ``timeout`` in seconds."""

    url: str
    certificate: str
    private_key: str = field(repr=False)
    ca: str
    timeout: float

    @classmethod
    def made(cls, old: Self | None, given: Mapping[str, Any]) -> Self:
        """``old`` with what was given. Raises Refused for what cannot be used."""
        made = cls(**_merged(CONFIG_FIELDS, old, given))
        _check_url(made.url)
        check_pair(made.certificate, made.private_key)
        check_ca(made.ca)
        identity_of(made.certificate)
        return made

    @classmethod
    def stored(cls, key: str, value: bytes) -> Self:
        """What is in storage at ``key``. Raises Damaged."""
        return cls(**_stored(CONFIG_FIELDS, key, value))

    @property
    def identity(self) -> Identity:
        return identity_of(self.certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """As `ROLE_FIELDS` say; times in seconds. ``certificate`` is empty if it has none of its own.

    It reads the keys of one SAE at this site (its certificate's) with one at the other.
    """

    peer_sae: str
    bits: int
    encoding: str
    wrap_required: bool
    wrap_ttl: float
    certificate: str
    private_key: str = field(repr=False)
    prefetch: int
    prefetch_ttl: float

    @classmethod
    def made(cls, old: Self | None, given: Mapping[str, Any]) -> Self:
        """``old`` with what was given. Raises Refused for what cannot be used."""
        made = cls(**_merged(ROLE_FIELDS, old, given))
        if bool(made.certificate) != bool(made.private_key):
            raise Refused(BAD_REQUEST, "certificate and private_key: give both, or both empty")
        if made.certificate:
            check_pair(made.certificate, made.private_key)
            identity_of(made.certificate)
        return made

    @classmethod
    def stored(cls, key: str, value: bytes) -> Self:
        """What is in storage at ``key``. Raises Damaged."""
        return cls(**_stored(ROLE_FIELDS, key, value))

    def identity(self, config: Config | None) -> Identity | None:
        """Of its own certificate, else of the mount's, if there is one."""
        if self.certificate:
            return identity_of(self.certificate)
        return config.identity if config else None


def kme_settings(config: Config, role: Role | None = None) -> KmeSettings:
    """How to reach the KME for a role, or with the mount's own certificate."""
    owner = role if role and role.certificate else config
    return KmeSettings(
        url=config.url,
        certificate=owner.certificate,
        private_key=owner.private_key,
        ca=config.ca,
        timeout_s=config.timeout,
    )


def to_store(settings: Config | Role) -> bytes:
    return json.dumps(asdict(settings)).encode()


def shown(fields: Sequence[Field], settings: Config | Role) -> dict[str, Any]:
    """What a reader may see of it."""
    return {field.name: getattr(settings, field.name) for field in fields if not field.secret}


def _merged(
    fields: Sequence[Field], old: Config | Role | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    if 0 < sum(name in given for name in PAIR) < len(PAIR):
        raise Refused(BAD_REQUEST, "certificate and private_key are only changed together")
    return completed(fields, {**(asdict(old) if old else {}), **given})


def _stored(fields: Sequence[Field], key: str, value: bytes) -> dict[str, Any]:
    """Another version of this program may have written more fields, or fewer."""
    try:
        values = completed(fields, read_fields(fields, json.loads(value)).values)
        if values["certificate"]:
            identity_of(values["certificate"])  # else each look at all roles would fail at it
    except (ValueError, AttributeError, Refused):  # its cause may quote what is stored
        raise Damaged(f"what is stored at {key} cannot be read") from None
    return values


def _check_url(url: str) -> None:
    if not _is_plain(url):
        raise Refused(BAD_REQUEST, f"url must be {URL_SHAPE}")


def _is_plain(url: str) -> bool:
    try:
        address = urlsplit(url)
        host, port = address.hostname or "", address.port
    except ValueError:
        return False
    written = f"[{host}]" if ":" in host else host
    plain = f"https://{written}" if port is None else f"https://{written}:{port}"
    return bool(HOST.fullmatch(host)) and port != 0 and url.lower() in (plain, f"{plain}/")
