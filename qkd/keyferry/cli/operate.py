"""Commands of an operator: what a site says of itself, and orders that destroy key."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from keyferry.cli.device_text import device_lines
from keyferry.cli.times import span

NAMES_SHOWN = 3
SITE = click.argument("site", type=click.Path(dir_okay=False, path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
CONFIRM = click.option("--confirm", metavar="CODE", help="The code that the first call gave.")


@click.command()
@SITE
@AS_JSON
def status(site: Path, as_json: bool) -> None:
    """Say how SITE is: device, blocks, stock, pads, refreshes, store, peer, alarms.

    \b
    Examples:
      keyferry status /etc/keyferry/site.toml
      keyferry status site.toml --json
    """
    answer = ordered(site, {"order": "status"})
    click.echo(json.dumps(answer) if as_json else "\n".join(status_lines(answer)))


@click.command()
@SITE
@AS_JSON
def reconcile(site: Path, as_json: bool) -> None:
    """Compare the records and stored bytes of SITE with its peer's, and burn what differs.

    Exit 0: nothing differs; 1: something did, and was burnt at both sites or is reported.

    \b
    Example:
      keyferry reconcile /etc/keyferry/site.toml
    """
    answer = ordered(site, {"order": "reconcile"})
    if as_json:
        click.echo(json.dumps(answer))
    else:
        compared = f"{answer['blocks']} blocks, {answer['bytes_compared']:,} stored bytes"
        note = f" ({answer['note']})" if answer["note"] else ""
        click.echo(f"compared {compared}{note}: {len(answer['differences'])} differences")
        for found in answer["differences"]:
            key = f" key {found['key_id']}" if found["key_id"] else ""
            click.echo(f"  block {found['block']}{key}: {found['kind']} ({found['detail']})")
    sys.exit(0 if answer["clean"] else 1)


@click.command()
@SITE
@click.argument("key_id")
@CONFIRM
@AS_JSON
def burn(site: Path, key_id: str, confirm: str | None, as_json: bool) -> None:
    """Burn the key KEY_ID at both sites. Asks for a second call with the code that it prints.

    \b
    Example:
      keyferry burn site.toml 9ff75ee0-40fc-4c28-98a3-ab746938b32d
      keyferry burn site.toml 9ff75ee0-40fc-4c28-98a3-ab746938b32d --confirm CODE
    """
    tell(ordered(site, confirmed({"order": "burn", "key_id": key_id}, confirm)), as_json)


@click.command()
@SITE
@click.option("--link", "what", flag_value="link", help="All key and pads of the link, both sites.")
@click.option("--site", "what", flag_value="site", help="That, and this site's data and root keys.")
@CONFIRM
@AS_JSON
def zeroise(site: Path, what: str | None, confirm: str | None, as_json: bool) -> None:
    """Erase key for good. Asks for a second call with the code that it prints.

    \b
    Example:
      keyferry zeroise site.toml --link
      keyferry zeroise site.toml --link --confirm CODE
    """
    if what is None:
        raise click.UsageError("--link or --site is needed")
    tell(ordered(site, confirmed({"order": "zeroise", "what": what}, confirm)), as_json)


@click.command()
@SITE
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@CONFIRM
@AS_JSON
def rekey(site: Path, file: Path, confirm: str | None, as_json: bool) -> None:
    """Start the link of SITE afresh with the pre-shared secret in FILE; the peer does the same.

    What is stored of the link is erased. FILE comes from `keyferry link secret`, is carried to both
    sites by hand, and is erased once it is installed. Asks for a second call with a code.

    \b
    Example:
      keyferry link rekey site.toml preshared.secret
      keyferry link rekey site.toml preshared.secret --confirm CODE
    """
    request = {"order": "rekey", "file": str(file.absolute())}
    tell(ordered(site, confirmed(request, confirm)), as_json)


def confirmed(request: dict[str, Any], confirm: str | None) -> dict[str, Any]:
    return request if confirm is None else request | {"confirm": confirm}


def ordered(site_file: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the running site, or of its store when it does not run.

    Raises ConfigError, and QkdError with what the site said.
    """
    answer = asked(site_file, request)
    if answer is not None:
        return answer
    from keyferry.bootstrap.resting import carried_out_here
    from keyferry.config.site import load

    return dict(carried_out_here(load(site_file), request))


def asked(site_file: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer of the running site; None when it does not run. Raises as `ordered`."""
    from keyferry.config.site import load
    from keyferry.operator.socket import ask
    from qkd_core.errors import ConfigError, QkdError

    answer = ask(load(site_file).state_dir, request)
    if answer is not None and "error" in answer:
        kind = ConfigError if answer.get("kind") == "ConfigError" else QkdError
        raise kind(str(answer["error"]))
    return answer


def tell(answer: Mapping[str, Any], as_json: bool) -> None:
    """What was done, or what would be and how to confirm it."""
    if as_json:
        click.echo(json.dumps(answer))
        return
    if "would" in answer:
        click.echo(f"this would {answer['would']}")
        click.echo(f"to do it, call again within five minutes with --confirm {answer['code']}")
        return
    click.echo(f"done: {answer['done']}")
    if "was" in answer:
        click.echo(f"the key was {answer['was']} here")
    if not answer["peer_told"]:
        click.echo("the peer does not answer: it is told as soon as it does and this site runs")


def status_lines(answer: Mapping[str, Any]) -> list[str]:
    """For people."""
    side, store = answer["side"], answer["store"]
    peer_side = "b" if side == "a" else "a"
    free, peer = answer["free_bytes"], answer["peer"]
    waits = ", the link waits" if store["link_waits"] else ""
    alarms = [f"{n} {kind}" for kind, n in sorted(answer["alarms"].items())]
    blocks = [f"{n} {outcome}" for outcome, n in sorted(answer["blocks"].items()) if n]
    qber = "-" if answer["qber"] is None else f"{answer['qber']:.2%}"
    lines = {
        "KME": f"{answer['kme']}, side {side.upper()} of link {answer['link']}",
        "peer": f"{peer['kme']}, {'answers' if peer['answers'] else 'DOES NOT ANSWER'}",
        **device_lines(answer["device"], answer["box"], time.time()),
        "blocks": ", ".join(blocks) or "none",
        "QBER": qber,
        **_entanglement(answer["entanglement"]),
        **_light(answer["pair_light"]),
        "own half": (
            f"{free[side]:,} bytes, {answer['drained_bytes_per_s']:,} a second drawn,"
            f" {_until_empty(answer['time_to_empty_s'])}"
        ),
        "peer's half": f"{free[peer_side]:,} bytes, as far as known here",
        "store": f"{store['stored_bytes']:,} of {store['max_bytes']:,} bytes{waits}",
        "pads": ", ".join(f"{name} {n}" for name, n in answer["pads"].items()),
        "policies": _policies(answer["policies"]),
        "refreshes": _runs(answer["refreshes"]),
        "delivered": f"{answer['keys_delivered']:,} keys",
        "untold": f"{answer['untold']['allocations']} keys, {answer['untold']['notices']} notices",
        "oldest key": _age(answer["oldest_epoch"]),
        "witness": _witness(answer["witness"]),
        "audit": _audit(answer["audit"]),
        "epsilon": _epsilon(answer["epsilon"]),
        "compared": _ago(answer["reconciled_at"]),
        "days left": ", ".join(f"{name} {days:.0f}" for name, days in answer["days_left"].items())
        or "unknown: a certificate or the revocation list cannot be read",
        "orphans": f"{answer['orphaned_keys']:,} keys",
        "site alarms": ", ".join(alarms) or "none",  # the device has its own, in its line
    }
    return [f"{name:12} {value}" for name, value in lines.items()]


def _entanglement(told: Mapping[str, float] | None) -> dict[str, str]:
    """Of links of pairs only."""
    if told is None:
        return {}
    return {
        "pairs": (
            f"QBER {told['test_qber']:.2%} in the test basis, fidelity at least"
            f" {told['fidelity_min']:.4f}, S {told['chsh']:.4f} +- {told['chsh_sigma']:.4f}"
        )
    }


def _light(told: Mapping[str, Any] | None) -> dict[str, str]:
    """Of the newest block of pairs; coincidences are found at side A."""
    if told is None:
        return {}
    lines = {
        "clicks": (
            f"{told['rate_hz']:,.0f} a second; {told['double_clicks']:,} double clicks,"
            f" {told['double_clicks_expected']:,.0f} expected"
        )
    }
    if (found := told["coincidences"]) is not None:
        car = "none accidental" if found["car"] is None else f"CAR {found['car']:.0f}"
        lines["coincidences"] = (
            f"{found['rate_hz']:,.0f} a second, {car}, {found['missed']:.2%} missed;"
            f" B's clock {found['offset_s']:+.9f} s, {found['drift_ppm']:+.5f} ppm"
        )
    return lines


def _policies(policies: Mapping[str, Any]) -> str:
    """How many, then what needs attention, by name as far as a line goes."""
    told = [str(policies["count"])]
    for what in ("blocked", "refused", "aborted", "late", "old", "paused"):
        names = policies[what]
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            word = what if what == "paused" else what.upper()
            told.append(f"{len(names)} {word} ({', '.join(names[:NAMES_SHOWN])}{more})")
    oldest = policies["oldest"]
    if oldest is not None:
        told.append(
            f"oldest active key: {oldest['policy']} generation {oldest['generation']},"
            f" {span(time.time() - oldest['active_since'])}"
        )
    return "; ".join(told)


def _runs(refreshes: list[Mapping[str, Any]]) -> str:
    """Counted over all policies."""
    counts: dict[str, int] = {}
    for each in refreshes:
        counts[each["state"]] = counts.get(each["state"], 0) + each["runs"]
    return ", ".join(f"{runs:,} {state}" for state, runs in sorted(counts.items())) or "none"


def _age(oldest: Mapping[str, Any] | None) -> str:
    if oldest is None:
        return "none"
    minutes = (time.time() - oldest["created_at"]) / 60
    return f"data key of epoch {oldest['epoch']}, {minutes:.0f} minutes old"


def _until_empty(seconds: int | None) -> str:
    return "does not sink" if seconds is None else f"empty in {seconds:,} s"


def _witness(witness: Mapping[str, Any] | None) -> str:
    if witness is None:
        return "none"
    state = str(witness["state"]).upper().replace("_", " ")
    return f"this site is {state if state != 'OPEN' else 'open'}, its peer {witness['peer_state']}"


def _audit(audit: Mapping[str, Any] | None) -> str:
    if audit is None:
        return "none"
    takes = "takes records" if audit["writable"] else "TAKES NO RECORDS"
    return f"{takes}; {audit['signed']:,} signed, {audit['countersigned']:,} countersigned"


def _epsilon(epsilon: Mapping[str, Any] | None) -> str:
    """What the link's key has cost since its pre-shared secret came."""
    from qkd_core.proofs.ledger import shown

    if epsilon is None or epsilon["since"] is None:
        return "none: no pre-shared secret came yet"
    spent = (
        f"{shown(epsilon['total'])} in {span(time.time() - epsilon['since'])}:"
        f" {epsilon['n_blocks']:,} blocks {shown(epsilon['blocks'])},"
        f" {epsilon['n_tags']:,} tags {shown(epsilon['tags'])}"
    )
    limits = [f"{name} {value}" for name, value in epsilon["limits"].items() if value is not None]
    told = [spent, ", ".join(limits) or "no limit"]
    if epsilon["exhausted"]:
        told.append("EXHAUSTED: no block is begun")
    elif epsilon["alarmed"]:
        told.append("ALARM")
    return "; ".join(told)


def _ago(moment: int | None) -> str:
    if moment is None:
        return "not yet with the peer"
    return f"with the peer {(time.time() - moment) / 60:.0f} minutes ago"
