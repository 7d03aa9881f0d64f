"""``keyferry policy``: refresh policies as an operator sees and orders them."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from keyferry.cli.operate import AS_JSON, SITE, ordered

NAME = click.argument("name")


@click.group()
def policy() -> None:
    """Refresh policies: one key into the key management systems of both sites, again and again.

    A policy is declared under one name in both site files; each names its own target. Its initiator
    begins the runs. Each run is one generation, at both sites or at neither.

    \b
    Example:
      keyferry policy list /etc/keyferry/site.toml
    """


@policy.command(name="list")
@SITE
@AS_JSON
def list_(site: Path, as_json: bool) -> None:
    """List the policies of SITE; what needs attention comes first and is marked with "!".

    GEN and AGE are those of the active generation: the newest that both sites have.

    \b
    Example:
      keyferry policy list site.toml
    """
    from keyferry.cli.policy_text import list_lines

    answer = ordered(site, {"order": "policy-list"})
    show(answer, as_json, list_lines(answer, time.time()))


@policy.command(name="show")
@SITE
@NAME
@AS_JSON
def show_(site: Path, name: str, as_json: bool) -> None:
    """Say all of the policy NAME at SITE, its last runs, and whether the other site agrees.

    Both files must have the same name, sites, initiator, bits, algorithm, schedule, jitter and
    grace, or the policy does not run. Only the initiator asks the other site.

    \b
    Example:
      keyferry policy show site.toml backup
    """
    from keyferry.cli.policy_text import show_lines

    answer = ordered(site, {"order": "policy-show", "name": name})
    show(answer, as_json, show_lines(answer, time.time()))


@policy.command()
@SITE
@NAME
@click.option("--wait", is_flag=True, help="Until the run has ended; exit 1 unless it is done.")
@AS_JSON
def run(site: Path, name: str, wait: bool, as_json: bool) -> None:
    """Make the policy NAME due now, at its initiator. The schedule stays as it is.

    While the site does not run, the order waits in its store.

    \b
    Examples:
      keyferry policy run site.toml backup
      keyferry policy run site.toml backup --wait
    """
    from keyferry.cli.waiting import waited

    answer = ordered(site, {"order": "policy-run", "name": name})
    if wait:
        answer = waited(site, name, answer["generation"])
        lines = [answer["told"]]
    else:
        lines = [f"{name} is due: its next run begins as soon as it can"]
    show(answer, as_json, lines)
    sys.exit(0 if answer.get("done", True) else 1)


@policy.command()
@SITE
@NAME
@AS_JSON
def pause(site: Path, name: str, as_json: bool) -> None:
    """Begin no new runs of the policy NAME at SITE; one that is under way goes on to its end.

    At the initiator: due times pass without a run, and `policy run` is refused. At the other site:
    the policy is late at its initiator, with the reason; what is due begins once it is resumed.

    \b
    Example:
      keyferry policy pause site.toml backup
    """
    answer = ordered(site, {"order": "policy-pause", "name": name})
    show(answer, as_json, [f"{name} is paused at this site, by {answer['by']}"])


@policy.command()
@SITE
@NAME
@AS_JSON
def resume(site: Path, name: str, as_json: bool) -> None:
    """Let runs of the policy NAME begin again at SITE.

    Due times that passed meanwhile are not made up for; a run that was due before still is.

    A pause at the other site has to be ended there.

    \b
    Example:
      keyferry policy resume site.toml backup
    """
    answer = ordered(site, {"order": "policy-resume", "name": name})
    by = answer["was_paused_by"]
    was = f"was paused by {by} and runs again" if by else "was not paused"
    show(answer, as_json, [f"{name} {was} at this site"])


@policy.command()
@SITE
@NAME
@AS_JSON
def compare(site: Path, name: str, as_json: bool) -> None:
    """Compare what stands in both sites' KMSs for the policy NAME now; exit 1 if they differ.

    Ordered at the initiator, whose site must run; both sites then have the result in `policy show`.
    What is gone or covered by a stranger's version is superseded by a new generation, once; other
    bytes under one generation are not, as whoever wrote them could write again.

    \b
    Example:
      keyferry policy compare site.toml backup
    """
    from keyferry.cli.comparison_text import comparison_lines

    answer = ordered(site, {"order": "policy-compare", "name": name})
    show(answer, as_json, comparison_lines(answer))
    sys.exit(0 if answer["verdict"] == "same" else 1)


@policy.command()
@SITE
@NAME
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@AS_JSON
def history(site: Path, name: str, limit: int, as_json: bool) -> None:
    """List the runs of the policy NAME at SITE, newest first, with what they came to.

    NATIVE is the version that this site's key management system counts.

    \b
    Example:
      keyferry policy history site.toml backup --limit 100
    """
    from keyferry.cli.policy_text import run_lines

    answer = ordered(site, {"order": "policy-history", "name": name, "limit": limit})
    show(answer, as_json, run_lines(answer["runs"]))


def show(answer: dict[str, Any], as_json: bool, lines: Sequence[str]) -> None:
    click.echo(json.dumps(answer) if as_json else "\n".join(lines))
