"""The timetable of a switch fabric: which link is served when, and the key of each."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from qkd_sim_link.physics.fabric import SharedLink
from qkd_sim_link.reports.fabric import FabricRun
from qkd_sim_link.reports.picture_style import BLUE, GREEN, RED
from qkd_sim_link.reports.pulses import PulseRun
from qkd_sim_link.scenarios.fabric import FabricScenario

HEIGHT = 0.6
KILO = 1e-3


def timetable(run: FabricRun) -> Figure:
    """One cycle of turns, and beside it the key rates over all the time."""
    fabric, links = run.scenario, run.links
    figure = Figure(figsize=(9.6, 1.6 + 0.7 * len(links)), layout="constrained")
    turns, keys = figure.subplots(ncols=2, sharey=True, width_ratios=(2, 1))
    for row, (link, own) in enumerate(links):
        _row(turns, fabric, link.name, row)
        _key(keys, (link, own), row, run.asked.confidence)
    turns.set_yticks(range(len(links)), [_told(link) for link, _ in links])
    turns.set(
        xlim=(0, fabric.cycle_s),
        xlabel="time in a cycle of turns (s)",
        title=f"{fabric.name}: {fabric.bank.at_once} links at once",
    )
    turns.invert_yaxis()
    turns.grid(visible=False, axis="y")
    settles = f"the switch settles ({1e3 * fabric.switch.reconfiguration_s:g} ms, drawn wider)"
    turns.legend(
        handles=[Patch(color=BLUE, label="served"), Patch(color=RED, label=settles)],
        loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2,
    )  # fmt: skip
    keys.set(xlabel="mean secret key (kbit/s)", xlim=(0, None))
    keys.grid(visible=False, axis="y")
    return figure


def _row(axes: Axes, fabric: FabricScenario, name: str, row: int) -> None:
    """The turns of one link; after a turn without it the switch has to settle first."""
    begin_s, before = 0.0, fabric.turns[-1]
    thin_s = fabric.cycle_s / 200
    for turn in fabric.turns:
        if name in turn.links:
            axes.barh(row, turn.seconds, HEIGHT, begin_s, color=BLUE)
            if name not in before.links:
                dark_s = max(fabric.switch.reconfiguration_s, thin_s)
                axes.barh(row, dark_s, HEIGHT, begin_s, color=RED)
        begin_s, before = begin_s + turn.seconds, turn


def _key(axes: Axes, found: tuple[SharedLink, PulseRun], row: int, confidence: float) -> None:
    link, run = found
    rate = run.keys.figures(confidence)[-1].scaled(link.served * KILO)
    value, mean = rate.value or 0.0, rate.expected or 0.0
    axes.barh(row, value, HEIGHT, color=GREEN)
    accepted = f"{run.keys.n_accepted} of {run.keys.n_blocks} blocks"
    axes.text(value / 2, row, f"{value:.3g} (planned {mean:.3g})\n{accepted}", color="white",
              ha="center", va="center", fontsize=8)  # fmt: skip


def _told(link: SharedLink) -> str:
    fibre = link.scenario.require_fibre()
    return f"{link.name}\n{fibre.length_km:g} km, {link.served:.1%}"
