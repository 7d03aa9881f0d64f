"""The ``keyferry`` command. Each command's own module is imported only when it runs."""

import errno
import importlib
import logging
import sys

import click

from qkd_core.errors import ConfigError, QkdError

COMMANDS = {
    "api": "service:api",
    "audit": "audit:audit",
    "backup": "backup:backup",
    "burn": "operate:burn",
    "certificates": "certify:certificates",
    "certify": "certify:certify",
    "check": "service:check",
    "conformance": "conformance:conformance",
    "engine": "service:engine",
    "jobs": "service:jobs",
    "kme": "service:kme",
    "link": "link:link",
    "pki": "pki:pki",
    "plugin": "plugin:plugin",
    "policy": "policy:policy",
    "proof": "proof:proof",
    "reconcile": "operate:reconcile",
    "refresh": "refresh:refresh",
    "restore": "backup:restore",
    "sim-link": "link:sim_link",
    "status": "operate:status",
    "tags": "tags:tags",
    "up": "up:up",
    "warm": "service:warm",
    "zeroise": "operate:zeroise",
}


class LazyGroup(click.Group):
    """Commands by name, each imported when it is asked for: ``--help`` starts no compiler."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"keyferry.cli.{module}"), name)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keyferry")
def main() -> None:
    """Quantum keys from photon detections to both sites' key management systems.

    \b
    Try it:        keyferry up
    Check a site:  keyferry check /etc/keyferry/site.toml
    Run a site:    keyferry kme /etc/keyferry/site.toml
    """


def entry() -> None:
    """One line on standard error for what we raise on purpose; 2 for a wrong setting, else 1."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        main()
    except ConfigError as error:
        sys.exit(failed(str(error), 2))
    except QkdError as error:
        sys.exit(failed(str(error), 1))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stdout = None  # what it still holds cannot be written
        sys.exit(failed("output cannot be written: no space left on the device", 2))


def failed(message: str, code: int) -> int:
    click.echo(f"keyferry: {message}", err=True)
    return code
