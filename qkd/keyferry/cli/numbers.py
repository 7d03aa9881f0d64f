"""The numbers that options take: finite, and within a range."""

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A finite number from ``min`` to ``max``. Click alone lets nan into every range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


SEED = click.IntRange(0, 2**63 - 1)
EPOCH_S = Number(1e-6, 3600)
TIME_PS = 10**15  # 17 minutes: longer than any lag, and exact to a ps as a float
