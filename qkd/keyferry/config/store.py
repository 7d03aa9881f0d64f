"""The part of the site file about stored key: how much, how long, and how often it is compared."""

from dataclasses import dataclass
from enum import StrEnum

from qkd_core.types.settings_table import SettingsTable

MIB = 1 << 20


class OnFull(StrEnum):
    """``pause``: the link waits. ``drop``: the newest block is given up at both sites."""

    PAUSE = "pause"
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """``[store]``; the whole table may be left out.

    max_bytes      of stored key that is in no key yet, both halves; the store is full above
    erase_after_s  how long one data key serves: what left the store is beyond recovery after it
    reconcile_s    how often the records are compared with the peer's
    compare_kms_s  how often what this site's refresh policies put into both KMSs is compared
    """

    max_bytes: int = 256 * MIB
    on_full: OnFull = OnFull.PAUSE
    erase_after_s: float = 3600.0
    reconcile_s: float = 3600.0
    compare_kms_s: float = 86400.0


def read_store(top: SettingsTable) -> StoreSettings:
    """Raises ConfigError."""
    standard = StoreSettings()
    if not top.has("store"):
        return standard
    table = top.table("store")
    store = StoreSettings(
        max_bytes=table.integer("max_bytes", 4096, 1 << 40, standard.max_bytes),
        on_full=OnFull(table.choice("on_full", [each.value for each in OnFull], standard.on_full)),
        erase_after_s=table.number("erase_after_s", 1, 1e7, standard.erase_after_s),
        reconcile_s=table.number("reconcile_s", 1, 1e7, standard.reconcile_s),
        compare_kms_s=table.number("compare_kms_s", 1, 1e7, standard.compare_kms_s),
    )
    table.finish()
    return store
