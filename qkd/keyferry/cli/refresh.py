"""``keyferry refresh``: single runs of refresh policies, their steps, and what becomes of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from keyferry.cli.operate import AS_JSON, CONFIRM, SITE, confirmed, ordered

RUN = click.argument("run")


@click.group()
def refresh() -> None:
    """Single runs of refresh policies. A run is one generation of one policy.

    RUN is the ID of a run, or POLICY/GENERATION, or POLICY for its newest run.

    \b
    Example:
      keyferry refresh show /etc/keyferry/site.toml backup/17
    """


@refresh.command()
@SITE
@RUN
@AS_JSON
def show(site: Path, run: str, as_json: bool) -> None:
    """Print the steps of RUN at SITE with their times, and how far the other site is.

    \b
    Examples:
      keyferry refresh show site.toml backup
      keyferry refresh show site.toml backup/17
      keyferry refresh show site.toml 9ff75ee0-40fc-4c28-98a3-ab746938b32d
    """
    answer = ordered(site, {"order": "refresh-show", "run": run})
    click.echo(json.dumps(answer) if as_json else "\n".join(show_lines(answer)))


@refresh.command()
@SITE
@RUN
@click.option("--retry", "how", flag_value="retry", help="Publish again; acts at once.")
@click.option("--supersede", "how", flag_value="supersede", help="Give it up, burn its key.")
@CONFIRM
@AS_JSON
def resolve(site: Path, run: str, how: str | None, confirm: str | None, as_json: bool) -> None:
    """Decide what becomes of RUN, which is blocked: a KMS has refused it after it was committed.
    One that is committed, and whose KMS does not come back, may be superseded as well.

    --retry, once the cause is removed: what may stand there from before is looked at first.
    --supersede: both sites give the generation up, its key is burnt, another follows at once.
    It is refused while the other site may have the key for good, and asks for a second call with
    the code that it prints.

    \b
    Examples:
      keyferry refresh resolve site.toml backup/17 --retry
      keyferry refresh resolve site.toml backup/17 --supersede
      keyferry refresh resolve site.toml backup/17 --supersede --confirm CODE
    """
    if how is None:
        raise click.UsageError("--retry or --supersede is needed")
    request = confirmed({"order": "refresh-resolve", "run": run, "how": how}, confirm)
    answer = ordered(site, request)
    if as_json:
        click.echo(json.dumps(answer))
    elif "would" in answer:
        click.echo(f"this would {answer['would']}")
        click.echo(f"to do it, call again within five minutes with --confirm {answer['code']}")
    else:
        click.echo(f"done: {answer['done']}")
        click.echo(f"run {answer['run_id']} is {answer['state']} here; the other site follows")


def show_lines(answer: Mapping[str, Any]) -> list[str]:
    from keyferry.cli.times import moment, took

    native, peer = answer["native_version"], answer["peer"]
    told = {
        "run": answer["run_id"],
        "policy": answer["policy"],
        "generation": answer["generation"],
        "key": answer["key_id"],
        "state": answer["state"] + (f": {answer['reason']}" if answer["reason"] else ""),
        "other site": ": ".join(filter(None, (peer["state"], peer["said"]))),
        "version": "not written by this site" if native is None else f"{native}, as its KMS counts",
        "took": took(answer["took_s"]),
    }
    lines = [f"{name:12} {value}" for name, value in told.items()]
    before = answer["began"]
    for step in answer["steps"]:
        note = f"  {step['note']}" if step["note"] else ""
        lines.append(
            f"  {moment(step['at'])}  +{step['at'] - before:9.3f} s  {step['state']}{note}"
        )
    if answer["state"] == "blocked":
        lines.append(f"to go on: keyferry refresh resolve SITE {answer['run_id']}")
    return lines
