"""Which keys are a role's own.

A KME gives a key by its ID to the SAE that it was made for, towards the SAE that got it first
(ETSI GS QKD 014, clause 5.4). So roles that are different SAEs, or have different peers, cannot
read one another's keys, and the KME sees to it. Two roles that are one SAE towards one peer could:
there is no second one.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations

from qkd_kms_adapters.openbao_plugin.engine.fields import BAD_REQUEST
from qkd_kms_adapters.openbao_plugin.engine.messages import Refused
from qkd_kms_adapters.openbao_plugin.engine.settings import Config, Role


def check_alone(
    roles: Mapping[str, Role], config: Config | None, written: str | None = None
) -> None:
    """Raises Refused if two of the roles would read the same keys.

    ``written``: look at this one's pairs only, the others were looked at when they were written.
    """
    for name, other in combinations(sorted(roles, key=lambda name: name != written), 2):
        if written is not None and name != written:
            return
        if _same_keys(roles[name], roles[other], config):
            if written is None and roles[name].certificate:
                name, other = other, name  # the one to change shows the mount's certificate
            raise Refused(
                BAD_REQUEST,
                f"role {name} would read the same keys as role {other}, both being one SAE towards"
                f" {roles[name].peer_sae}: give this role a certificate of its own",
            )


def not_compared(damaged: Iterable[str]) -> tuple[str, ...]:
    """A warning for each role that cannot be read: before it is used, it must be written anew."""
    return tuple(
        f"role {name} was not looked at: what is stored there cannot be read, write it anew or"
        " delete it"
        for name in damaged
    )


def _same_keys(one: Role, other: Role, config: Config | None) -> bool:
    if one.peer_sae.casefold() != other.peer_sae.casefold():  # as names in certificates are
        return False
    if not one.certificate and not other.certificate:
        return True  # whatever certificate the mount has, or will have
    mine, theirs = one.identity(config), other.identity(config)
    return mine is not None and theirs is not None and not mine.alike.isdisjoint(theirs.alike)
