"""The SAEs of a site file: at which KME each is, whom it may share with, how much it may have."""

from qkd_core.errors import ConfigError
from qkd_core.keys.quotas import SaePolicy
from qkd_core.types.ids import KmeId, SaeId
from qkd_core.types.settings_table import SettingsTable

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
EVERY_SAE = "*"


def read_saes(top: SettingsTable) -> tuple[dict[SaeId, KmeId], dict[SaeId, SaePolicy]]:
    """At which KME each SAE is, and what it may do. Raises ConfigError."""
    saes: dict[SaeId, KmeId] = {}
    policies: dict[SaeId, SaePolicy] = {}
    for table in top.tables("saes"):
        name = SaeId(table.text("id", pattern=NAME))
        if name in saes:
            raise table.refuse("id", name, "is listed twice")
        saes[name] = KmeId(table.text("kme", pattern=NAME))
        policies[name] = _policy(table)
        table.finish()
    for name, policy in policies.items():
        unknown = sorted((policy.allow or frozenset()) - saes.keys())
        if unknown:
            raise ConfigError(
                f"{top.file}: saes: {name} allows {', '.join(unknown)}: must be SAEs of this file"
            )
    return saes, policies


def _policy(table: SettingsTable) -> SaePolicy:
    """No default for ``allow``: who may share keys with whom is for the file to say."""
    allow = table.texts("allow", word=EVERY_SAE)
    rated = table.has("rate_hz") or table.has("burst")
    return SaePolicy(
        allow=None if allow == (EVERY_SAE,) else frozenset(SaeId(name) for name in allow),
        rate_hz=table.number("rate_hz", 1e-6, 1e9) if rated else None,
        burst=table.integer("burst", 1, 10**9) if rated else 1,
        share=table.number("share", 0.001, 1, 1.0),
    )
