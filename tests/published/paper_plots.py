"""Key rate over distance, as two SVG files for the pages of this repository."""

import sys
from collections.abc import Callable
from math import exp, expm1
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from paper_links import Gys, Lim, Rusca
from paper_optimum import search
from scipy.optimize import minimize_scalar

from qkd_core.proofs.entropy import binary_entropy
from qkd_core.proofs.functions import evaluate

mpl.use("Agg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "keyferry",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.8,
    }
)
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b8860b", "#555555")
SIX = (3, 0, 2, 4, 1, 5)
HALVINGS = 7  # of the last step of a curve


def draw(folder: Path) -> None:
    """Write key_rate_gys.svg and key_rate_finite.svg into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, panels, width in (
        ("key_rate_gys", (gys,), 7.2),
        ("key_rate_finite", (lim, rusca), 11),
    ):
        figure, axes = plt.subplots(
            ncols=len(panels), figsize=(width, 4.6), layout="constrained", squeeze=False
        )
        for panel, each in zip(panels, axes[0], strict=True):
            each.set_yscale("log")
            panel(each)
            each.legend(frameon=False, fontsize=9)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        print(folder / f"{name}.svg", file=sys.stderr, flush=True)


def gys(axes: Axes) -> None:
    """Ma et al. 2005: keys of infinite length over the GYS fibre."""
    link = Gys()
    curves = (
        (
            lambda km: evaluate("plob", {"eta": link.eta(km)})["b"],
            "the most without a repeater (PLOB)",
        ),
        (link.infinite, "infinitely many decoys: 142.0 km"),
        (lambda km: link.vacuum_weak(km, 0.05), "vacuum and a decoy of 0.05: 140.6 km"),
        (lambda km: link.vacuum_weak(km, 0.1), "vacuum and a decoy of 0.1: 139.1 km"),
        (_without_decoys(link), "no decoys, best mean photon number"),
    )
    for colour, (rate, label) in zip((5, 0, 1, 2, 4), curves, strict=True):
        _line(axes, np.linspace(0, 142.2, 800), rate, colour, label)
    axes.set(xlim=(0, 150), ylim=(1e-9, 1), xlabel="fibre, km", ylabel="secret bits per pulse")
    axes.set_title("Infinite keys over the GYS fibre (Ma, Qi, Zhao, Lo 2005)", fontsize=10)


def _without_decoys(link: Gys) -> Callable[[float], float]:
    """Every pulse of more photons may be one that was seen, and free of errors: Eq. (1)."""

    def rate(km: float, mu: float) -> float:
        seen = link.of_signal(km, mu)
        single = seen.gain + expm1(-mu) + mu * exp(-mu)  # less the pulses of two and more
        if single <= 0:
            return -seen.gain
        phi = min(0.5, seen.gain * seen.qber / single)
        corrected = 1.22 * seen.gain * binary_entropy(seen.qber)
        return (single * (1 - binary_entropy(phi)) - corrected) / 2

    def best(km: float) -> float:
        found = minimize_scalar(lambda x: -rate(km, 10**x), bounds=(-5, 0), method="bounded")
        return -float(found.fun)

    return best


def lim(axes: Axes) -> None:
    """Lim et al. 2014 for several blocks."""
    for colour, exponent in zip(SIX, range(9, 3, -1), strict=True):
        found = search(Lim(n_key=10.0**exponent))
        _line(axes, np.arange(0, 200, 5), found.next, colour, f"$10^{exponent}$ bits")
    axes.set(xlim=(0, 200), ylim=(1e-9, 3e-2), xlabel="fibre, km", ylabel="secret bits per pulse")
    axes.set_title("Two decoys, sifted bits of a block (Lim et al. 2014)", fontsize=10)


def rusca(axes: Axes) -> None:
    """Rusca et al. 2018 for several blocks."""
    for colour, exponent in zip(SIX[::2], (9, 7, 5), strict=True):
        found = search(Rusca(n_key=10.0**exponent))
        _line(axes, np.arange(0, 70, 2), found.next, colour, f"$10^{exponent}$ bits")
    axes.set(
        xlim=(0, 70), ylim=(1, 3e7), xlabel="loss of the fibre, dB", ylabel="secret bits per second"
    )
    axes.set_title("One decoy, 1 GHz, dead time 100 ns (Rusca et al. 2018)", fontsize=10)


def _line(
    axes: Axes, where: np.ndarray, rate: Callable[[float], float], colour: int, label: str
) -> None:
    """One curve up to where no key is left, in ever smaller steps before that."""
    points: list[tuple[float, float]] = []
    for each in where.tolist():
        value = rate(each)
        if value <= 0:
            points += _end(points[-1][0], each, rate)
            break
        points.append((each, value))
    axes.plot(*zip(*points, strict=True), color=COLOURS[colour], label=label)


def _end(low: float, high: float, rate: Callable[[float], float]) -> list[tuple[float, float]]:
    """Points between ``low``, where there is key, and ``high``, where there is none."""
    points = []
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        value = rate(middle)
        if value > 0:
            points.append((middle, value))
            low = middle
        else:
            high = middle
    return points
