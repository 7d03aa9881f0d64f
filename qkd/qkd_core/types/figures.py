"""What a site's metrics, progress display and status are made of."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFigures:
    """Read from the store in one transaction; counts since the store began.

    blocks      by outcome: ``available``, ``pending``, or the error class that ended the block
    qber        of the newest stored block, None before the first
    link_s      seconds of link time of the stored blocks
    free_bytes  stored bytes not allocated, by owner's side
    refreshes   runs by (policy, state)
    pool_pads   pads left by (sender's side, lane name)
    """

    blocks: dict[str, int]
    qber: float | None
    secret_bits: int
    link_s: float
    free_bytes: dict[str, int]
    keys_delivered: int
    refreshes: dict[tuple[str, str], int]
    pool_pads: dict[tuple[str, str], int]
    last_discard: str | None = field(default=None)
