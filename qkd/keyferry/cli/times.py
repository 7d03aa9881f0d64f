"""Times as people read them."""

from datetime import UTC, datetime

UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
FEW = 2  # of a unit: told in the next smaller one


def span(seconds: float) -> str:
    """In one unit, rounded down: 59 s, 119 min, 47 h, 9 d."""
    for unit_s, unit in UNITS:
        if seconds >= FEW * unit_s:
            return f"{int(seconds / unit_s)} {unit}"
    return f"{int(seconds)} s"


def moment(seconds: float | None) -> str:
    """In UTC, to the second; a dash for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def until(seconds: float | None, now: float) -> str:
    """How long it is until ``seconds``; ``now`` for what is past, a dash for never."""
    if seconds is None:
        return "-"
    return "now" if seconds <= now else span(seconds - now)


def took(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
