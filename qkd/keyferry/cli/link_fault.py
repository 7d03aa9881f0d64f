"""``keyferry link fault`` and ``keyferry link faults``: what can go wrong on a simulated link."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyferry.cli.numbers import Number

if TYPE_CHECKING:
    from qkd_sim_link.serving.control_client import ControlClient

CLEAR = "clear"
LINE_WIDTH = 100


def of_link(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a link that runs."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--credential", type=path, help="With --socket: the file of its credential."),
        click.option("--socket", type=path, help="Of a link's control; else that of --state."),
        click.option(
            "--state",
            type=path,
            default=Path(".keyferry"),
            show_default=True,
            help="Of the keyferry up whose link is meant.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--for", "last_s", type=Number(), help="Seconds of the wall.")
@of_link
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def fault(
    name: str, parameters: tuple[str, ...], last_s: float | None, as_json: bool, **where: Any
) -> None:
    """Let a simulated link that runs have a fault, until it is cleared or for --for.

    NAME is a fault of "keyferry link faults". It acts from the next block on; "clear" ends all
    faults, or those whose names follow.

    \b
    Examples:
      keyferry link fault loss-step db=3 --for 20
      keyferry link fault detector-latch detector=1
      keyferry link fault partition --for 30
      keyferry link fault clear
    """
    from qkd_core.errors import ConfigError
    from qkd_sim_link.scenarios.fault_kinds import KINDS, LONG_S
    from qkd_sim_link.scenarios.faults import told_fault

    if last_s is not None and not 0 < last_s <= LONG_S:
        raise ConfigError(f"--for {last_s:g}: above 0 and at most {LONG_S:g} s")
    if name == CLEAR:
        told = _cleared(parameters, last_s, where)
        click.echo(json.dumps(told) if as_json else f"{told['cleared']} cleared{_when(told)}")
        return
    values = told_fault(name, _values(name, parameters)).values
    with _control(**where) as control:
        answer = control.fault(name, values, last_s)
    kind = KINDS[name]
    if as_json:
        told = {"fault": name, "values": values, "for_s": last_s, **answer}
        click.echo(json.dumps(told | {"failure": kind.failure, "expect": kind.expect}))
        return
    until = "until it is cleared" if last_s is None else f"for {last_s:g} s"
    click.echo(f"{name} ({kind.failure}): acts in {answer['begins_in_s']:.1f} s, {until}")
    click.echo(f"expect: {kind.expect}")


@click.command()
@click.option("--acting", is_flag=True, help="Instead: those that a link that runs has now.")
@of_link
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def faults(*, acting: bool, as_json: bool, **where: Any) -> None:
    """List the faults that a simulated link can have, and what the sites then see.

    \b
    Examples:
      keyferry link faults
      keyferry link faults --acting
    """
    if acting:
        with _control(**where) as control:
            told = control.faults()["faults"]
        click.echo(json.dumps({"faults": told}) if as_json else _acting_text(told))
        return
    click.echo(json.dumps({"faults": _catalogue()}) if as_json else _catalogue_text())


def _cleared(
    names: tuple[str, ...], last_s: float | None, where: Mapping[str, Any]
) -> dict[str, Any]:
    from qkd_core.errors import ConfigError
    from qkd_sim_link.scenarios.fault_kinds import KINDS

    if last_s is not None:
        raise ConfigError("--for: does not go with clear")
    for name in names:
        if name not in KINDS:
            raise ConfigError(f"fault {name!r}: must be one of {', '.join(KINDS)}")
    with _control(**where) as control:
        answers = [control.clear(name) for name in names or (None,)]
    return {
        "cleared": sum(answer["cleared"] for answer in answers),
        "ends_in_s": max(answer["ends_in_s"] for answer in answers),
    }


def _control(state: Path, socket: Path | None, credential: Path | None) -> "ControlClient":
    """Raises ConfigError."""
    from qkd_core.errors import ConfigError
    from qkd_sim_link.serving.control_client import ControlClient

    if (socket is None) != (credential is None):
        raise ConfigError("--socket, --credential: both or neither")
    if socket is None or credential is None:
        try:
            found = json.loads((state / "endpoints.json").read_text())["link"]
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"--state {state}: no keyferry up runs there") from error
        socket, credential = Path(found["control_socket"]), Path(found["control_credential"])
    return ControlClient(socket, credential)


def _values(name: str, parameters: tuple[str, ...]) -> dict[str, str]:
    """Raises ConfigError for what is not KEY=VALUE, and for a key that is told twice."""
    from qkd_core.errors import ConfigError

    values: dict[str, str] = {}
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not equals or key in values:
            raise ConfigError(f"fault {name}: {parameter!r}: KEY=VALUE, and each key once")
        values[key] = value
    return values


def _catalogue() -> list[dict[str, Any]]:
    from qkd_sim_link.scenarios.fault_kinds import KINDS

    return [
        {
            "fault": name,
            "failure": kind.failure,
            "acts": sorted(kind.acts),
            "parameters": {key: what.told() for key, what in kind.parameters.items()},
            "bound": kind.bound,
            "expect": kind.expect,
        }
        for name, kind in KINDS.items()
    ]


def _catalogue_text() -> str:
    from textwrap import TextWrapper

    wrapped = TextWrapper(LINE_WIDTH, initial_indent="    ", subsequent_indent="      ")
    parts: list[str] = []
    for told in _catalogue():
        lines = [f"{told['fault']}  ({told['failure']}; {', '.join(told['acts'])})"]
        lines += [f"    {key}: {what}" for key, what in told["parameters"].items()]
        lines.append(wrapped.fill(f"expect: {told['expect']}"))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _acting_text(told: list[dict[str, Any]]) -> str:
    if not told:
        return "none"
    lines = []
    for each in told:
        values = " ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in each["values"].items()
        )
        begins, ends = each["begins_in_s"], each["ends_in_s"]
        begun = f"begins in {begins:.1f} s, " if begins else ""
        until = "until it is cleared" if ends is None else f"for {ends:.1f} s more"
        lines.append(f"{each['kind']} {values}: {begun}{until}")
    return "\n".join(lines)


def _when(told: Mapping[str, Any]) -> str:
    return f", in {told['ends_in_s']:.1f} s" if told["ends_in_s"] else ""
