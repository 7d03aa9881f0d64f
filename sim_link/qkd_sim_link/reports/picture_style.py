"""How all pictures of runs look."""

from typing import Any

BLUE, RED, GREEN, GREY = "#1b6ca8", "#c0392b", "#2e8b57", "#777777"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "keyferry",  # so that the same run gives the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
