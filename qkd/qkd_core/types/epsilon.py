"""What a link may cost in epsilon before people are told, and before it stands still."""

from dataclasses import dataclass
from enum import StrEnum

from qkd_core.errors import ConfigError


class Spender(StrEnum):
    """What costs epsilon: a block that was begun, a tag that was sent or looked at."""

    BLOCK = "block"
    TAG = "tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonLimits:
    """Of the sum over a link since its pre-shared secret came; None: there is none.

    alarm  from this sum on there is an alarm
    limit  no block is begun that would take the sum above it
    """

    alarm: float | None = None
    limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("alarm", "limit"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(f"epsilon_{name} {value}: above 0, at most 1")
        if self.alarm is not None and self.limit is not None and self.alarm > self.limit:
            raise ConfigError(
                f"epsilon_alarm {self.alarm}: at most epsilon_limit, which is {self.limit}"
            )

    def as_fields(self) -> dict[str, float]:
        """Those that there are, for a record."""
        pairs = (("alarm", self.alarm), ("limit", self.limit))
        return {name: value for name, value in pairs if value is not None}
