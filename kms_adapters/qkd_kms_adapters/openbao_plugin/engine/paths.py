"""The paths of a mount: routing, help and OpenAPI all follow from this one table."""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from qkd_kms_adapters.openbao_plugin.engine.asked import Asked
from qkd_kms_adapters.openbao_plugin.engine.config import (
    config_exists,
    delete_config,
    read_config,
    write_config,
)
from qkd_kms_adapters.openbao_plugin.engine.fields import Field, Kind
from qkd_kms_adapters.openbao_plugin.engine.keys import read_fresh_key, read_key_by_id
from qkd_kms_adapters.openbao_plugin.engine.messages import (
    Operation,
    Response,
    UnsupportedOperation,
    UnsupportedPath,
)
from qkd_kms_adapters.openbao_plugin.engine.mount import Mount
from qkd_kms_adapters.openbao_plugin.engine.roles import (
    delete_role,
    list_roles,
    read_role,
    role_exists,
    write_role,
)
from qkd_kms_adapters.openbao_plugin.engine.settings import CONFIG_FIELDS, ROLE_FIELDS
from qkd_kms_adapters.openbao_plugin.engine.status import read_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an operation does, the fields it takes besides those in the path, and its answer's."""

    run: Callable[[Mount, Asked], Awaitable[Response | None]]
    summary: str
    takes: tuple[Field, ...] = ()
    answers: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """``template``: with {name} for each of ``parameters``.

    ``exists``: whether an update would change something; None if it makes no difference.
    """

    template: str
    synopsis: str
    description: str
    acts: Mapping[Operation, Act]
    parameters: tuple[Field, ...] = ()
    exists: Callable[[Mount, Asked], Awaitable[bool]] | None = None
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        text = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template)
        listing = "/?" if Operation.LIST in self.acts else ""  # the server adds the slash
        object.__setattr__(self, "pattern", re.compile(text + listing))

    def act(self, operation: Operation) -> Act:
        """Raises UnsupportedOperation."""
        try:
            return self.acts[operation]
        except KeyError:
            raise UnsupportedOperation from None

    def fields(self) -> tuple[Field, ...]:
        """All that the path takes, in the path and besides it, by name."""
        taken = {field.name: field for act in self.acts.values() for field in act.takes}
        taken.update({field.name: field for field in self.parameters})
        return tuple(taken[name] for name in sorted(taken))


def route(path: str) -> tuple[Path, Mapping[str, str]]:
    """The entry for a path, and what stands in it. Raises UnsupportedPath."""
    for entry in PATHS:
        if found := entry.pattern.fullmatch(path):
            return entry, found.groupdict()
    raise UnsupportedPath


def _role(name: str) -> Field:
    return Field(
        name=name,
        kind=Kind.TEXT,
        description="Name of the role.",
        most=64,
        pattern="[A-Za-z0-9_][A-Za-z0-9_.-]*",
        shape="1 to 64 letters, digits, _ . or -, of which the first is no . or -",
    )


def _text(name: str, description: str) -> Field:
    return Field(name=name, kind=Kind.TEXT, description=description)


def _count(name: str, description: str) -> Field:
    return Field(name=name, kind=Kind.INTEGER, description=description)


KEY_ID = Field(
    name="key_id",
    kind=Kind.TEXT,
    description="ID of the key, as the other side got it.",
    most=36,
    pattern="[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    shape="a UUID",
)
PAGE = (
    Field(
        name="after",
        kind=Kind.TEXT,
        description="Only names that come behind this one.",
        default="",
        shape="a name",
    ),
    Field(
        name="limit",
        kind=Kind.INTEGER,
        description="So many names at most; all of them if it is not above 0.",
        default=0,
        least=-math.inf,
    ),
)
WHO = (
    Field(
        name="sae",
        kind=Kind.LIST,
        description="The names in the certificate that a KME may take for the SAE ID.",
    ),
    Field(name="not_after", kind=Kind.TIME, description="When the certificate expires."),
)
KEY = (
    Field(
        name="key",
        kind=Kind.TEXT,
        description="The bytes of the key, in the role's encoding.",
        secret=True,
    ),
    _text("key_id", "By which the other side reads the same key."),
    _text("encoding", "base64 or hex."),
    _text("provenance", "What the KME says the key is made of, unknown if it says nothing."),
)
STATUS = (
    _text("source_kme_id", "The KME that was asked."),
    _text("target_kme_id", "The KME of the other site."),
    _text("master_sae_id", "The SAE that the KME takes this role for."),
    _text("slave_sae_id", "The SAE at the other site."),
    _count("key_size", "Length of a key, in bits, if none is asked for."),
    _count("stored_key_count", "Keys of that length that are ready."),
    _count("max_key_count", "Keys of that length that the KME can hold."),
    _count("max_key_per_request", "Keys in one answer of the KME, at most."),
    _count("max_key_size", "Longest key, in bits."),
    _count("min_key_size", "Shortest key, in bits."),
    _count("max_sae_id_count", "Further SAEs that can get the same key."),
    Field(name="status_extension", kind=Kind.MAP, description="What the KME adds to its status."),
    _count("prefetched", "Keys fetched ahead that wait at this node for a reader."),
    _count("prefetch_served", "Keys that this node gave out, since its plugin was started."),
    _count("prefetch_expired", "Keys that were fetched and dropped unread, likewise."),
    _count("prefetch_lost", "Keys asked for whose answer did not arrive, at most, likewise."),
    _count("prefetch_batch", "Keys that the last batch asked for."),
    WHO[1],
)


def _shown(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return (*(field for field in fields if not field.secret), *WHO)


def _writing(write: Act) -> Mapping[Operation, Act]:
    """A policy tells making from changing; we do the same for both."""
    return {Operation.CREATE: write, Operation.UPDATE: write}


PATHS = (
    Path(
        template="config",
        synopsis="Which KME this mount reads keys from, and as whom.",
        description=(
            "The URL of the KME, the client certificate that says which SAE asks, and the"
            " authorities to trust. Fields that are left out stay as they are; certificate and"
            " private_key are changed together. The private key cannot be read back. A change"
            " drops the keys that were fetched ahead; roles stay."
        ),
        acts={
            Operation.READ: Act(
                run=read_config,
                summary="Read the settings, without the private key.",
                answers=_shown(CONFIG_FIELDS),
            ),
            **_writing(
                Act(run=write_config, summary="Write or change the settings.", takes=CONFIG_FIELDS)
            ),
            Operation.DELETE: Act(run=delete_config, summary="Delete the settings."),
        },
        exists=config_exists,
    ),
    Path(
        template="roles",
        synopsis="List the roles.",
        description="The names of the roles, in order; in pages with after and limit.",
        acts={
            Operation.LIST: Act(
                run=list_roles,
                summary="List the names of the roles.",
                takes=PAGE,
                answers=(Field(name="keys", kind=Kind.LIST, description="Names of roles."),),
            ),
        },
    ),
    Path(
        template="roles/{name}",
        parameters=(_role("name"),),
        synopsis="With whom a role shares keys, and how they are given out.",
        description=(
            "A role reads the keys that the KME makes for one SAE here and one at the other site."
            " Two roles with the same two would read one another's keys, so the second is"
            " refused: it needs a certificate of its own. Fields that are left out stay as they"
            " are. A change drops the keys that were fetched ahead for the role."
        ),
        acts={
            Operation.READ: Act(
                run=read_role,
                summary="Read a role, without its private key.",
                answers=_shown(ROLE_FIELDS),
            ),
            **_writing(Act(run=write_role, summary="Write or change a role.", takes=ROLE_FIELDS)),
            Operation.DELETE: Act(run=delete_role, summary="Delete a role."),
        },
        exists=role_exists,
    ),
    Path(
        template="keys/{role}",
        parameters=(_role("role"),),
        synopsis="Read a fresh key.",
        description=(
            "Each read gives another key, once, with the ID by which the other site reads the same"
            " key. It is no lease: what you do not keep is gone. A read whose answer got lost has"
            " used up its key; read again."
        ),
        acts={
            Operation.READ: Act(run=read_fresh_key, summary="Read a fresh key.", answers=KEY),
        },
    ),
    Path(
        template="keys/{role}/{key_id}",
        parameters=(_role("role"), KEY_ID),
        synopsis="Read the key that the other side has under this ID.",
        description=(
            "The KME gives the key to the SAE that it was made for, and most give it once. A role"
            " gets no key that was made for another."
        ),
        acts={
            Operation.READ: Act(run=read_key_by_id, summary="Read a key by its ID.", answers=KEY),
        },
    ),
    Path(
        template="status/{role}",
        parameters=(_role("role"),),
        synopsis="What the KME can give a role.",
        description=(
            "The KME's status for the role and its peer (ETSI GS QKD 014, clause 6.1), what this"
            " node has fetched ahead, and when the role's certificate expires."
        ),
        acts={
            Operation.READ: Act(
                run=read_status, summary="Read what the KME can give.", answers=STATUS
            ),
        },
    ),
)
