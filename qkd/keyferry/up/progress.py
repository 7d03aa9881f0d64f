"""What one sees while ``keyferry up`` runs."""

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from keyferry.plugin.declaring import MOUNT
from keyferry.up.layout import KMES
from keyferry.up.observe import SiteView, observe
from keyferry.up.openbao import OpenBaoFiles
from keyferry.up.run import RunningSites
from keyferry.up.site_files import POLICY
from qkd_core.types.ids import Side

REFRESH_S, LINES_S = 0.5, 30.0


def show(sites: RunningSites, console: Console) -> None:
    """A live table until interrupted. Raises ConfigError when a part can never start."""
    seen: set[Side] = set()
    console.print(to_try(sites), soft_wrap=True, markup=False, highlight=False)
    if not console.is_terminal:
        print_lines(sites, console, seen)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(picture(sites, observed(sites, seen), seen))
            live.refresh()
            time.sleep(REFRESH_S)


def print_lines(sites: RunningSites, console: Console, seen: set[Side]) -> NoReturn:
    """For a log file: a line each half minute instead of a table."""
    while True:
        for side, view in observed(sites, seen).items():
            cells = (f"{name} {cell(view, side)}" for name, cell in ROWS.items()) if view else ()
            console.print(f"{KMES[side]}: {', '.join(cells) or silence(side, seen)}")
        end = time.monotonic() + LINES_S
        while time.monotonic() < end:
            sites.supervisor.watch()
            time.sleep(REFRESH_S)


def observed(sites: RunningSites, seen: set[Side]) -> dict[Side, SiteView | None]:
    """Look at both sites; ``seen`` collects those that ever answered."""
    sites.supervisor.watch()
    views = {side: observe(sites.ports, side) for side in Side}
    seen |= {side for side, view in views.items() if view}
    return views


def silence(side: Side, seen: set[Side]) -> str:
    return "no answer" if side in seen else "starting"


def picture(sites: RunningSites, views: dict[Side, SiteView | None], seen: set[Side]) -> Group:
    """The table of both sites, the link's rate, and where to go on."""
    table = Table(title="Keyferry: two sites, one simulated link", title_justify="left")
    table.add_column("")
    for side in Side:
        table.add_column(f"site {side.value.upper()}  {KMES[side]}", justify="right")
    for name, cell in ROWS.items():
        table.add_row(
            name,
            *(
                silence(side, seen) if view is None else cell(view, side)
                for side, view in views.items()
            ),
        )
    return Group(
        table,
        rate_line(sites, views[Side.A]),
        f"addresses and credentials  {sites.state.endpoints}",
        f"logs                       {sites.state.logs}",
        "Ctrl-C ends everything",
    )


def to_try(sites: RunningSites) -> str:
    """Two commands: a fresh key from site A's OpenBao server, the same one from site B's.

    Above the table, and each a line of its own however long it is: to be copied.
    """
    bao = shown(Path(sys.executable).with_name("bao"))
    source_a, source_b = (
        f"source {shown(OpenBaoFiles(sites.state.site(side).openbao).shell)}" for side in Side
    )
    return "\n".join(
        (
            "to try: a fresh key at site A, and the same at site B by its key_id:",
            f"{source_a}; {bao} read {MOUNT}/keys/{POLICY}",
            f"{source_b}; {bao} read {MOUNT}/keys/{POLICY}/KEY_ID",
        )
    )


def shown(path: Path) -> str:
    """As a shell takes it, and short when it is below the present folder."""
    return shlex.quote(
        str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    )


def rate_line(sites: RunningSites, view: SiteView | None) -> str:
    """Key rates, with the time scale beside them: link seconds are not wall seconds."""
    scale = f"time scale {sites.scenario.time_scale:g}"
    if view is None:
        return f"link {sites.scenario.name}, {scale}"
    if not view.link_s:
        return f"link {sites.scenario.name}, {scale}: no block yet"
    per_link = view.secret_bits / view.link_s
    return (
        f"link {sites.scenario.name}, {scale}: {per_link / 1e3:,.1f} kbit secret key"
        " per second of link time of stored blocks"
    )


def _discarded(view: SiteView) -> str:
    reasons = [f"{n} {name}" for name, n in sorted(view.discarded.items())]
    return ", ".join(reasons) or "0"


ROWS: dict[str, Callable[[SiteView, Side], str]] = {
    "blocks": lambda view, side: f"{view.available:,}",
    "discarded": lambda view, side: _discarded(view),
    "QBER": lambda view, side: "-" if view.qber is None else f"{view.qber:.2%}",
    "secret bits": lambda view, side: f"{view.secret_bits:,}",
    "stored keys (own half)": lambda view, side: f"{view.stored_keys.get(side.value, 0):,}",
    "keys delivered": lambda view, side: f"{view.keys_delivered:,}",
    "refreshes": lambda view, side: f"{view.refreshed('done'):,}",
    "link": lambda view, side: "waits: the store is full" if view.paused else "runs",
    "alarms": lambda view, side: f"{view.alarms:,}",
}
