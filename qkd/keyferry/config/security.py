"""The part of the site file about what key may cost: ``[security]``."""

from dataclasses import dataclass

from qkd_core.errors import PlanRefused
from qkd_core.proofs.theorems import theorem_for
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.plans import LinkKind, SecurityPolicy
from qkd_core.types.settings_table import SettingsTable

EPS = (1e-30, 1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySettings:
    """``policy`` and ``theorem`` are both sites' alike; each has ``epsilon`` for itself.

    theorem  that key lengths come from, by its name
    """

    policy: SecurityPolicy
    theorem: str
    epsilon: EpsilonLimits


def read_security(top: SettingsTable, kind: LinkKind) -> SecuritySettings:
    """For a link of ``kind``. No default for what a key may cost. Raises ConfigError."""
    table = top.table("security")
    with table.checks():
        security = SecuritySettings(
            policy=SecurityPolicy(
                eps_sec=table.number("eps_sec", *EPS),
                eps_cor=table.number("eps_cor", *EPS),
                abort_rate=table.number("abort_rate", 1e-6, 0.5),
            ),
            theorem=_theorem(table, kind),
            epsilon=EpsilonLimits(
                alarm=_optional(table, "epsilon_alarm"), limit=_optional(table, "epsilon_limit")
            ),
        )
    table.finish()
    return security


def _theorem(table: SettingsTable, kind: LinkKind) -> str:
    named = table.text("theorem") if table.has("theorem") else None
    try:
        return theorem_for(kind, named).name
    except PlanRefused as error:
        raise table.refuse("theorem", str(named), str(error)) from error


def _optional(table: SettingsTable, key: str) -> float | None:
    return table.number(key, 0, 1) if table.has(key) else None
