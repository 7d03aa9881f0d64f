"""Waiting for the run of a refresh policy that was ordered."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from keyferry.cli.operate import asked
from qkd_core.errors import QkdError
from qkd_core.types.keys import RefreshState

LOOK_S = 0.2
SILENT_S = 2.0  # before a wait shows its progress
DONE = (RefreshState.DONE.value, RefreshState.RETIRED.value)
ENDED = (
    *DONE,
    RefreshState.ABORTED.value,
    RefreshState.BLOCKED.value,
    RefreshState.SUPERSEDED.value,
)


def waited(site: Path, name: str, after: int) -> dict[str, Any]:
    """How the run that follows generation ``after`` ended, with ``done`` and a line ``told``.

    Raises QkdError when the site does not run, or does not begin a run.
    """
    began = time.monotonic()
    progress = Progress()
    try:
        while True:
            answer = asked(site, {"order": "policy-progress", "name": name, "after": after})
            if answer is None:
                raise QkdError(f"policy {name} is due, but this site does not run")
            run = answer["run"]
            if run is None and not answer["due"]:
                raise QkdError(f"policy {name} did not run: {answer['trouble'] or 'passed over'}")
            if run is not None and run["state"] in ENDED:
                return ended(run, time.monotonic() - began)
            progress.show(standing(run, answer["trouble"]), time.monotonic() - began)
            time.sleep(LOOK_S)
    finally:
        progress.end()


def ended(run: dict[str, Any], waited_s: float) -> dict[str, Any]:
    """A run that is aborted, blocked or superseded is not done."""
    done = run["state"] in DONE
    told = f"{run['policy']}: generation {run['generation']} is {run['state']}"
    if done:
        told += f" at both sites, after {waited_s:.1f} s; key {run['key_id']}"
    elif run["reason"]:
        told += f": {run['reason']}"
    return {**run, "done": done, "told": told}


def standing(run: dict[str, Any] | None, trouble: str | None) -> str:
    what = "due" if run is None else f"generation {run['generation']} is {run['state']}"
    return f"{what}, late: {trouble}" if trouble else what


class Progress:
    """One line on a terminal that replaces itself; nothing where standard error is none."""

    def __init__(self) -> None:
        self._shown = 0

    def show(self, what: str, waited_s: float) -> None:
        if waited_s < SILENT_S or not sys.stderr.isatty():
            return
        line = f"{what}, waiting for {waited_s:.0f} s"[:99]
        click.echo(f"\r{line:{self._shown}}", nl=False, err=True)
        self._shown = len(line)

    def end(self) -> None:
        if self._shown:
            click.echo(f"\r{'':{self._shown}}\r", nl=False, err=True)
