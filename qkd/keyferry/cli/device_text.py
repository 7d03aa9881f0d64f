"""Lines of the status about the link's device, or the vendor's box."""

from collections.abc import Mapping
from typing import Any

from keyferry.cli.times import span


def device_lines(
    device: Mapping[str, Any] | None, box: Mapping[str, Any] | None, now: float
) -> dict[str, str]:
    """For people: one of the two, by the kind of the link."""
    lines = {}
    if device is not None:
        lines["device"] = _device(device)
    if box is not None:
        lines["box"] = _box(box, now)
    return lines


def _device(told: Mapping[str, Any]) -> str:
    if not told["answers"]:
        age = "never answered" if told["age_s"] is None else f"last {span(told['age_s'])} ago"
        return f"DOES NOT ANSWER: {told['trouble']} ({age})"
    clock = told["clock_state"]
    parts = [f"clock {clock if clock in ('locked', 'unknown') else clock.upper()}"]
    if told["events"] is not None:
        parts.append(f"{told['events_per_s']:,.0f} events a second")
        parts.append(f"{told['missed']:,} missed")
    if told["fill"]:
        parts.append(f"buffer {told['fill']:.0%} full")
    alarms = f"; ALARMS: {', '.join(told['alarms'])}" if told["alarms"] else ""
    return ", ".join(parts) + alarms


def _box(told: Mapping[str, Any], now: float) -> str:
    if told["waits"] is None:
        return f"unknown: {told['why']}"
    if not told["waits"]:
        return "the link does not wait for it"
    return f"THE LINK WAITS for {span(now - told['since'])}: {told['why']}"
