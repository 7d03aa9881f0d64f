"""What a site knows of where its link's bits come from: for people, never for a key."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SILENT_S = 5.0  # what was told so long ago does not count any more


class ClockState(StrEnum):
    """Of a device's clock: on its reference, going on without it, lost, or it cannot say."""

    LOCKED = "locked"
    HOLDOVER = "holdover"
    UNLOCKED = "unlocked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigures:
    """How this end's device is. What it counts, it counts since it began.

    told_at      when the engine's process told this, in seconds since 1970
    answered_at  when the device answered last; None before it ever did
    trouble      why it does not answer now, empty while it does
    n_events     of all its channels together: by channel they would tell of bits; None of a device
                 that detects nothing
    rate_hz      of them, by the newest change of their number
    missed, fill, clock_state, alarms  as of `qkd_sim_link.drivers.contract.Health`
    """

    told_at: float
    answered_at: float | None = None
    trouble: str = ""
    n_events: int | None = None
    rate_hz: float = 0.0
    missed: int = 0
    fill: float = 0.0
    clock_state: ClockState = ClockState.UNKNOWN
    alarms: tuple[str, ...] = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "DeviceFigures":
        """From what `as_fields` gave. Raises KeyError, TypeError, ValueError."""
        state, alarms = ClockState(fields["clock_state"]), tuple(fields["alarms"])
        return cls(**{**fields, "clock_state": state, "alarms": alarms})

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)

    def trouble_at(self, now: float) -> str:
        """As ``trouble``, also when the process that asks the device tells nothing any more."""
        return silence(self.told_at, now) or self.trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxFigures:
    """How a link of a vendor's boxes is, at this end.

    told_at  when the engine's process told this, in seconds since 1970
    waits_since  from when on no block is begun, in seconds since 1970; None: the link goes on
    why      what the box said or did not say when it was asked last
    """

    told_at: float
    waits_since: float | None = None
    why: str = ""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "BoxFigures":
        """From what `as_fields` gave. Raises TypeError."""
        return cls(**fields)

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)


def silence(told_at: float, now: float) -> str:
    """What is wrong when an engine's process told its figures then; empty if nothing is."""
    return "" if now - told_at <= SILENT_S else "the engine's process tells nothing"
