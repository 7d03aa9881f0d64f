"""How the link's device is, or the vendor's box, as a site says it to its operator."""

from typing import Any

from keyferry.config.site import SiteSettings
from keyferry.config.vendor import VendorBox
from keyferry.processes.device_file import Figures, told
from qkd_core.types.device import BoxFigures, DeviceFigures, silence

NOTHING_TOLD = "the engine's process has told nothing yet"


def device_status(site: SiteSettings, now: float) -> dict[str, Any]:
    """``device`` and ``box``, one of which is None by the kind of the link.

    What was told of a link of the other kind, as before the site file was changed, does not count.
    """
    figures = told(site.state_dir)
    if isinstance(site.link.device, VendorBox):
        return {"device": None, "box": _box(figures, now)}
    return {"device": _device(figures, now), "box": None}


def _device(figures: Figures | None, now: float) -> dict[str, Any]:
    """Without an answer its last figures stay, with their age; of counts, the sum of channels.

    ``events`` and ``events_per_s`` are None of a device that detects nothing.
    """
    if not isinstance(figures, DeviceFigures):
        figures = DeviceFigures(told_at=now, trouble=NOTHING_TOLD)
    trouble, answered_at = figures.trouble_at(now), figures.answered_at
    return {
        "answers": not trouble,
        "trouble": trouble or None,
        "age_s": None if answered_at is None else round(max(0.0, now - answered_at), 1),
        "clock_state": figures.clock_state.value,
        "events": figures.n_events,
        "events_per_s": _events_per_s(figures, trouble),
        "missed": figures.missed,
        "fill": figures.fill,
        "alarms": list(figures.alarms),
    }


def _events_per_s(figures: DeviceFigures, trouble: str) -> float | None:
    if figures.n_events is None:
        return None
    return 0.0 if trouble else round(figures.rate_hz, 1)


def _box(figures: Figures | None, now: float) -> dict[str, Any]:
    """``waits`` is None while the engine's process tells nothing."""
    if not isinstance(figures, BoxFigures):
        return {"waits": None, "since": None, "why": NOTHING_TOLD}
    if quiet := silence(figures.told_at, now):
        return {"waits": None, "since": None, "why": quiet}
    waits = figures.waits_since is not None
    return {"waits": waits, "since": figures.waits_since, "why": figures.why or None}
