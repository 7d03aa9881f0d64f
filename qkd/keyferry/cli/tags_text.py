"""What the commands about time tags print, for people and for programs."""

from collections.abc import Iterator
from fractions import Fraction
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkd_sim_link.formats.recording import TagInfo
    from qkd_sim_link.formats.survey import Survey
    from qkd_sim_link.tags.g2 import ContinuousG2, PulsedG2

PS_A_NS = 1000


def figures(info: "TagInfo", found: "Survey") -> dict[str, Any]:
    """For programs. The shortest interval of a channel is its dead time, or longer."""
    return {
        "format": info.format,
        "device": info.device,
        "mode": info.mode or None,
        "tick_ps": str(info.tick),
        "sync_period_ps": None if info.sync_period is None else str(info.sync_period),
        "records": found.n_records,
        "records_in_header": info.n_records,
        "tags": found.n_tags,
        "markers": found.markers,
        "overflows": found.overflows,
        "left_out": found.left_out,
        "patterns": found.patterns,
        "missed": found.missed,
        "duration_s": found.duration_s,
        "channels": {
            str(number): {
                "tags": channel.count,
                "rate_hz": found.rate_hz(number),
                "shortest_interval_ps": _ps(channel.shortest, found.tick),
            }
            for number, channel in found.channels.items()
        },
        "sorted": not found.steps_back,
        "steps_back": found.steps_back,
        "largest_step_back_ps": _ps(found.largest_back, found.tick),
        "latest_tag_ps": _ps(found.latest, found.tick),
        "damage": found.damage or None,
        "header": {key: _plain(value) for key, value in info.header.items()},
    }


def statement(info: "TagInfo", found: "Survey") -> Iterator[str]:
    """For people: a short table."""
    yield f"format    {' '.join(part for part in (info.format, info.mode) if part)}"
    yield f"device    {info.device}"
    sync = "" if info.sync_period is None else f", sync period {float(info.sync_period):.9g} ps"
    yield f"tick      {_decimal(info.tick)} ps{sync}"
    yield f"records   {found.n_records:,}, of which {found.n_tags:,} tags come"
    others = (
        (found.markers, "markers"),
        (found.overflows, "overflows of the counter"),
        (found.left_out, "dummies left out"),
        (found.patterns, "records of several detectors"),
        (found.missed, "events missed by the device"),
    )
    for n, what in others:
        if n:
            yield f"          {n:,} {what}"
    yield f"duration  {found.duration_s:.6g} s"
    if found.channels:
        yield "channel         tags       rate/s  shortest interval/ns"
    for number, channel in found.channels.items():
        rate = found.rate_hz(number)
        shortest = _ps(channel.shortest, found.tick)
        yield (
            f"{number:7} {channel.count:12,} {'-' if rate is None else f'{rate:,.1f}':>12}"
            f" {'-' if shortest is None else f'{shortest / PS_A_NS:,.3f}':>21}"
        )
    yield f"order     {_order(found)}"
    yield f"damage    {found.damage or 'none'}"


def g2_figures(result: "PulsedG2 | ContinuousG2") -> dict[str, Any]:
    """For programs; an unbounded limit is null."""
    from qkd_sim_link.tags.g2 import PulsedG2

    told = {
        "g2_zero": result.g2_zero,
        "low": result.low,
        "high": _finite(result.high),
        "delay_ps": result.delay_ps,
    }
    if not isinstance(result, PulsedG2):
        return {"light": "steady"} | told | {"count": result.count, "by_chance": result.by_chance}
    return (
        {"light": "pulsed"}
        | told
        | {
            "net": _finite(result.net),
            "net_low": result.net_low,
            "net_high": _finite(result.net_high),
            "period_ps": result.period_ps,
            "centre": result.centre,
            "side_peaks": result.sides.size,
            "side_mean": float(result.sides.mean()),
            "background": result.background,
        }
    )


def g2_statement(result: "PulsedG2 | ContinuousG2") -> Iterator[str]:
    """For people."""
    from qkd_sim_link.tags.g2 import PulsedG2

    yield f"g2_zero   {result.g2_zero:.4g}, {result.low:.4g} to {result.high:.4g}"
    if isinstance(result, PulsedG2):
        yield f"net       {result.net:.4g}, {result.net_low:.4g} to {result.net_high:.4g}"
        yield f"          without the background, {result.background:.2%} of a side peak"
        yield (
            f"counts    {result.centre:,} in the centre peak, {result.sides.mean():,.1f} in each of"
            f" {result.sides.size:,} others"
        )
        yield f"period    {result.period_ps:,.2f} ps"
    else:
        yield f"counts    {result.count:,}, by chance {result.by_chance:,.1f}"
    yield f"delay     {result.delay_ps / PS_A_NS:,.3f} ns"


def _order(found: "Survey") -> str:
    if not found.steps_back:
        return "by time"
    largest, latest = (
        (_ps(ticks, found.tick) or 0.0) / PS_A_NS for ticks in (found.largest_back, found.latest)
    )
    return (
        f"{found.steps_back:,} steps back in time, the largest {largest:,.3f} ns;"
        f" a window of {latest:,.3f} ns orders them"
    )


def _ps(ticks: int | None, tick: Fraction) -> float | None:
    return None if ticks is None else float(ticks * tick)


def _plain(value: object) -> object:
    """A value of a file's header as JSON has it; of what it has not, Python's text for it."""
    known = isinstance(value, bool | int | str | None) or (
        isinstance(value, float) and isfinite(value)
    )
    return value if known else repr(value)


def _decimal(tick: Fraction) -> str:
    return f"{float(tick):.9g}"


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
