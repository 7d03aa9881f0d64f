"""What a site says of itself to its operator."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from keyferry.config.site import SiteSettings
from keyferry.operator.device_status import device_status
from keyferry.operator.policy_rows import ATTENTION, PolicyView, views_of
from keyferry.store.sqlite import Store
from qkd_api.trust import Trust
from qkd_core.errors import ConfigError
from qkd_core.keys.forecast import time_to_empty_s


def site_status(
    site: SiteSettings, store: Store, peer_answers: Callable[[], bool], now: float
) -> dict[str, Any]:
    """One JSON object; no key bytes. Raises AuditUnavailable."""
    figures = store.figures()
    level = store.pool.level()
    left_s = time_to_empty_s(level)
    witness, audit = figures.witness, figures.audit
    oldest = figures.oldest_epoch
    stored = sum(figures.free_bytes.values())
    return {
        "kme": site.kme_id,
        "side": site.side.value,
        "link": site.link.link_id,
        "peer": {"kme": site.link.peer_kme, "answers": peer_answers()},
        **device_status(site, now),
        "blocks": figures.blocks,
        "qber": figures.qber,
        "entanglement": None if figures.entanglement is None else asdict(figures.entanglement),
        "pair_light": None if figures.pair_light is None else figures.pair_light.told(),
        "last_discard": figures.last_discard,
        "free_bytes": figures.free_bytes,
        "drained_bytes_per_s": round(level.drained_bytes_per_s, 1),
        "filled_bytes_per_s": round(level.filled_bytes_per_s, 1),
        "time_to_empty_s": round(left_s) if math.isfinite(left_s) else None,
        "store": {
            "stored_bytes": stored,
            "max_bytes": site.keeping.max_bytes,
            "on_full": site.keeping.on_full.value,
            "link_waits": figures.paused,
            "file_bytes": site.store.stat().st_size,
        },
        "keys_delivered": figures.keys_delivered,
        "pads": {f"{sender} {lane}": n for (sender, lane), n in figures.pool_pads.items()},
        "refreshes": [
            {"policy": policy, "state": state, "runs": n}
            for (policy, state), n in sorted(figures.refreshes.items())
        ],
        "policies": policies_in_short(views_of(site, store, figures.policies, now)),
        "untold": {
            "allocations": len(store.allocations.outbox(1000)),
            "notices": len(store.agreement.notices(1000)),
        },
        "oldest_epoch": (
            None if oldest is None else {"epoch": oldest.epoch, "created_at": oldest.created_at}
        ),
        "witness": None if witness is None else asdict(witness),
        "audit": None if audit is None else asdict(audit),
        "epsilon": None if figures.epsilon is None else asdict(figures.epsilon),
        "orphaned_keys": figures.orphaned_keys,
        "reconciled_at": figures.reconciled_at,
        "days_left": days_left(site),
        "alarms": figures.alarms,
    }


def policies_in_short(views: Sequence[PolicyView]) -> dict[str, Any]:
    """How many policies there are, the names of those that need attention, the oldest key."""
    needed = {view.policy.name: view.attention() for view in views}
    active = [view for view in views if view.figures.active_since is not None]
    oldest = min(active, key=lambda view: view.figures.active_since or 0.0, default=None)
    return {
        "count": len(views),
        **{
            what: sorted(name for name, found in needed.items() if what in found)
            for what in ATTENTION
        },
        "oldest": None
        if oldest is None
        else {
            "policy": oldest.policy.name,
            "generation": oldest.figures.generation,
            "active_since": oldest.figures.active_since,
        },
    }


def days_left(site: SiteSettings) -> dict[str, float]:
    """Of the site's certificates and revocation list; empty when one of them cannot be read."""
    try:
        return {name: round(days, 1) for name, days in Trust(site.tls).days_left().items()}
    except ConfigError:
        return {}
