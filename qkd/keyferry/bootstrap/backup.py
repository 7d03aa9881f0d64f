"""Making a backup of a site, and starting one from a backup, each with its audit record."""

from contextlib import closing
from pathlib import Path

from keyferry.bootstrap.stores import store_of
from keyferry.clock import SystemClock
from keyferry.config.site import SiteSettings
from keyferry.store.sealing import new_root_key
from keyferry.witness.backup import read_ledger, write_backup
from qkd_core.errors import ConfigError


def back_up(site: SiteSettings, file: Path) -> list[str]:
    """Returns the names of what the backup holds. Raises ConfigError, AuditUnavailable."""
    if not site.store.exists():
        raise ConfigError(f"{site.store}: no such store: the site has never run")
    now = SystemClock().now()
    parts = write_backup(site, file, now)
    with closing(store_of(site, "cli")) as store:
        store.database.write(lambda tx: tx.audit("backup_made", file=str(file.absolute())))
    return parts


def restore(site: SiteSettings, file: Path) -> dict[str, str | float]:
    """Start empty with the records of a backup. Raises ConfigError, AuditUnavailable."""
    manifest = read_ledger(site, file)
    if not site.root_key.exists():
        new_root_key(site.root_key)
    with closing(store_of(site, "cli")) as store:
        store.witness.start_empty(f"restored from a backup of {manifest.time:.0f}")
        return {
            "kme_id": manifest.kme_id,
            "backup_time": manifest.time,
            "incarnation": store.witness.marks().incarnation,
        }
