"""The refresh policies of a site file: what both sites share, and what is this site's own."""

from dataclasses import dataclass
from pathlib import Path

from keyferry.config.saes import NAME
from keyferry.config.schedule import schedule_of
from qkd_core.errors import ConfigError
from qkd_core.types.ids import KmeId, Side
from qkd_core.types.refresh import LONGEST_S, MAX_BITS, MIN_BITS, KeyAlgorithm, RefreshPolicy
from qkd_core.types.settings_table import SettingsTable
from qkd_kms_adapters.registry import read_target
from qkd_kms_adapters.targets import Target, existing_file


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Who is told that a generation is active: ``url`` by https, signed with what ``secret`` holds.

    ``ca``: whose certificates are trusted there; None: what this machine trusts.
    """

    url: str
    secret: Path
    ca: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """A refresh policy at one site.

    policy     agrees by digest with the other site's
    target     where this site puts the keys
    max_age_s  an active generation that is older raises an alarm; None: never
    webhook    who is told of a new active generation; None: nobody
    """

    policy: RefreshPolicy
    target: Target
    max_age_s: float | None = None
    webhook: WebhookSettings | None = None


def read_policies(
    top: SettingsTable, kmes: tuple[KmeId, KmeId], folder: Path
) -> tuple[PolicySettings, ...]:
    """``kmes``: of side A and of side B. Paths are relative to ``folder``. Raises ConfigError."""
    policies: dict[str, PolicySettings] = {}
    for table in top.tables("policies"):
        name = table.text("name", pattern=NAME)
        if name in policies:
            raise table.refuse("name", name, "is listed twice")
        policies[name] = _policy(table, name, kmes, folder)
        table.finish()
    _check_targets(top.file, list(policies.values()))
    return tuple(policies.values())


def _policy(
    table: SettingsTable, name: str, kmes: tuple[KmeId, KmeId], folder: Path
) -> PolicySettings:
    with table.checks():
        policy = RefreshPolicy(
            name=name,
            kmes=kmes,
            n_bits=table.integer("n_bits", MIN_BITS, MAX_BITS),
            algorithm=KeyAlgorithm(
                table.choice("algorithm", [each.value for each in KeyAlgorithm], KeyAlgorithm.RAW)
            ),
            interval_s=table.number("interval_s", 1, LONGEST_S)
            if table.has("interval_s")
            else None,
            cron=table.text("cron") if table.has("cron") else None,
            jitter_s=table.number("jitter_s", 0, LONGEST_S, 0.0),
            grace_s=table.number("grace_s", 0, LONGEST_S, 0.0),
            initiator=Side(table.choice("initiator", [side.value for side in Side])),
        )
        schedule_of(policy)
        target = read_target(table.table("target"), folder)
        target.check(policy)
    return PolicySettings(
        policy=policy,
        target=target,
        max_age_s=table.number("max_age_s", 1, LONGEST_S) if table.has("max_age_s") else None,
        webhook=_webhook(table.table("webhook"), folder) if table.has("webhook") else None,
    )


def _webhook(table: SettingsTable, folder: Path) -> WebhookSettings:
    webhook = WebhookSettings(
        url=table.text("url", pattern=r"https://.+"),
        secret=existing_file(table, "secret", folder),
        ca=existing_file(table, "ca", folder) if table.has("ca") else None,
    )
    table.finish()
    return webhook


def _check_targets(file: str, policies: list[PolicySettings]) -> None:
    """No two policies may write to the same place: each counts its own generations."""
    taken: dict[tuple[str, str], str] = {}
    for entry in policies:
        for place in entry.target.places:
            server = "" if place.startswith("/") else entry.target.server  # a file is a file
            owner = taken.setdefault((server, place), entry.policy.name)
            if owner != entry.policy.name:
                raise ConfigError(
                    f"{file}: policies: {owner} and {entry.policy.name} both have {place} at"
                    f" {entry.target.server}: each needs its own"
                )
