"""Commands that evaluate the formulas behind a key's length, one for each formula."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click

OTHERS = {
    "list": "proof:list_functions",
    "plan": "proof_plan:plan",
    "theorems": "proof:list_theorems",
}


class ProofGroup(click.Group):
    """One command for each formula, and the few others, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from qkd_core.proofs.functions import FUNCTIONS

        return [*OTHERS, *FUNCTIONS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from qkd_core.proofs.functions import FUNCTIONS

        if cmd_name in OTHERS:
            module, _, name = OTHERS[cmd_name].partition(":")
            found = getattr(importlib.import_module(f"keyferry.cli.{module}"), name)
            return found if isinstance(found, click.Command) else None
        return _command(cmd_name) if cmd_name in FUNCTIONS else None


@click.command(cls=ProofGroup)
def proof() -> None:
    """Evaluate the formulas that key lengths and link models come from.

    Each takes a JSON object of named numbers and gives every intermediate. Those of finite keys are
    for comparison with published work; keys are made by the theorem that the site file names.

    \b
    Example:
      keyferry proof list
      keyferry proof plob --help
      echo '{"eta": 0.01}' | keyferry proof plob -
    """


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_functions(*, as_json: bool) -> None:
    """Show every formula and the inputs that it takes.

    \b
    Example:
      keyferry proof list --json
    """
    from qkd_core.proofs.formulas.stated import allowed, names, needed, optional
    from qkd_core.proofs.functions import FUNCTIONS

    if as_json:
        rows = {
            name: {
                "about": function.about,
                "inputs": allowed(function.inputs),
                "optional": optional(function.inputs),
                "outputs": list(names(function.outcome)),
            }
            for name, function in FUNCTIONS.items()
        }
        click.echo(json.dumps(rows, indent=2))
        return
    for name, function in FUNCTIONS.items():
        may = "".join(f" [{each}]" for each in optional(function.inputs))
        click.echo(f"{name}: {function.about}")
        click.echo(f"    {' '.join(needed(function.inputs))}{may}")


@click.command(name="theorems")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_theorems(*, as_json: bool) -> None:
    """Show every theorem: what it assumes, where it holds, how it departs from its source.

    \b
    Example:
      keyferry proof theorems
    """
    from qkd_core.proofs.theorems import names, theorem_of

    theorems = [theorem_of(name) for name in names()]
    if as_json:
        rows = {
            each.name: {
                "version": each.version,
                "source": each.source,
                "makes_keys": each.keys is not None,
                "domain": each.domain,
                "assumptions": each.assumptions,
                "departures": each.departures,
            }
            for each in theorems
        }
        click.echo(json.dumps(rows, indent=2))
        return
    for each in theorems:
        click.echo(f"{each.name}, version {each.version}: {each.source}")
        click.echo(f"    domain: {each.domain}")
        for what, sentences in (("assumes", each.assumptions), ("departs", each.departures)):
            for sentence in sentences:
                click.echo(f"    {what}: {sentence}")


def _command(name: str) -> click.Command:
    """The command of one formula."""
    from qkd_core.proofs.formulas.stated import allowed, names, optional
    from qkd_core.proofs.functions import FUNCTIONS

    function = FUNCTIONS[name]
    may = optional(function.inputs)
    members = "\n".join(
        f"  {key:15}{words}{' (optional)' if key in may else ''}"
        for key, words in allowed(function.inputs).items()
    )

    def run(inputs: str, **_as_json: bool) -> None:
        _evaluate(name, inputs)

    return click.Command(
        name,
        callback=run,
        params=[
            click.Argument(["inputs"], metavar="INPUTS.json"),
            click.Option(
                ["--json", "as_json"], is_flag=True, help="One JSON object, as always here."
            ),
        ],
        short_help=function.about,
        help=f"{function.about}\n\nINPUTS.json holds a JSON object; - reads it from standard input."
        f"\n\n\b\nIts members:\n{members}"
        f"\n\nThe answer has {', '.join(names(function.outcome))}; in_domain says whether the"
        " formula holds for these inputs, out_of_domain why not."
        f"\n\n\b\nExample:\n  keyferry proof {name} inputs.json",
    )


def _evaluate(name: str, inputs: str) -> None:
    """Raises ConfigError, which names the file."""
    from qkd_core.errors import ConfigError
    from qkd_core.proofs.functions import evaluate

    given = _object(inputs)
    try:
        outcome = evaluate(name, given)
    except ConfigError as error:
        raise ConfigError(f"{inputs}: {error}") from error
    click.echo(json.dumps(outcome, indent=2, allow_nan=False))


def _object(path: str) -> dict[str, Any]:
    """The JSON object in a file, or on standard input. Raises ConfigError."""
    from qkd_core.errors import ConfigError

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        found = json.loads(text, object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no JSON object: {_one_line(error)}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: a JSON {type(found).__name__}, allowed is an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _one_line(error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) else None
    return why or str(error).splitlines()[0]
