"""``keyferry plugin``: the secrets engine, for a server that somebody else runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from keyferry.plugin.declaring import Entry
    from keyferry.plugin.placing import Placed
    from keyferry.plugin.registering import Registered

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def plugin() -> None:
    """The secrets engine plugin for OpenBao and Vault: services read keys from their vault."""


@plugin.command()
@click.option(
    "--plugin-dir",
    required=True,
    type=click.Path(path_type=Path),
    help="The server's plugin_directory.",
)
@click.option(
    "--name",
    default="keyferry-qkd",
    show_default=True,
    help="In the server's catalogue; the file is called so too, with the version behind it.",
)
@click.option(
    "--unpacked",
    is_flag=True,
    help="For development: a launcher of this Python's packages, which its checksum leaves out.",
)
@click.option("--replace", is_flag=True, help="Also when a file with other contents is there.")
@click.option("--register", is_flag=True, help="Register it with the server at --address, too.")
@click.option("--address", metavar="URL", help="With --register: https://HOST:PORT.")
@click.option("--ca", type=FILE, help="With --register: the authority of its certificate.")
@click.option("--token-file", type=FILE, help="With --register: a token, for its owner to read.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def install(  # noqa: PLR0913 (what, where, and with which server)
    *,
    plugin_dir: Path,
    name: str,
    unpacked: bool,
    replace: bool,
    register: bool,
    address: str | None,
    ca: Path | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Put the plugin into a server's plugin folder, and say or do what registers it.

    It is one file, with its Python and all libraries in it, so that the checksum which the server
    keeps covers all of it. PyInstaller builds it in a minute or so, once for a version; it is kept
    in ~/.cache/keyferry (or XDG_CACHE_HOME). Each node of a cluster needs the same file: copy it.

    A token for --register may read and update sys/plugins/catalog/secret/NAME, with sudo, and
    read sys/mounts.

    \b
    Examples:
      keyferry plugin install --plugin-dir /opt/openbao/plugins
      keyferry plugin install --plugin-dir /opt/openbao/plugins --register \\
        --address https://bao.example:8200 --ca ca.pem --token-file admin.token
    """
    from keyferry.plugin import placing
    from keyferry.plugin.declaring import Entry

    placing.check_name(name)
    placing.check_folder(plugin_dir)
    sign_in = _sign_in(register, address, ca, token_file)
    called = placing.file_name(name, unpacked=unpacked)
    placed = placing.place(_content(unpacked), plugin_dir, called, replace=replace)
    entry = Entry(name=name, command=called, version=placed.version, sha256=placed.sha256)
    registered = sign_in(entry) if sign_in else None
    if as_json:
        click.echo(json.dumps(_told(placed, entry, unpacked, registered)))
    else:
        click.echo("\n".join(_lines(placed, entry, unpacked, registered)))


def _sign_in(
    register: bool, address: str | None, ca: Path | None, token_file: Path | None
) -> "Callable[[Entry], Registered] | None":
    """How to register, with what is needed for it at hand before anything is changed."""
    from qkd_core.errors import ConfigError

    if not register:
        for option, given in (("--address", address), ("--ca", ca), ("--token-file", token_file)):
            if given is not None:
                raise ConfigError(f"{option}: goes with --register")
        return None
    if address is None or ca is None or token_file is None:
        raise ConfigError("--register: needs --address, --ca and --token-file")
    from keyferry.plugin import registering

    token = registering.token_in(token_file)
    return lambda entry: registering.register(address, ca, token, entry)


def _content(unpacked: bool) -> bytes:
    from keyferry.plugin import launcher, one_file

    if unpacked:
        return launcher.launcher()
    with _progress() as tell:
        return one_file.build(tell).content


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """On a terminal one line that moves, else a line for each stage; both on standard error."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield lambda stage: console.print(f"building: {stage}", markup=False)
        return
    with console.status("looking for a file built earlier") as status:
        yield lambda stage: status.update(f"building, a minute or so: {stage}")


def _told(
    placed: "Placed", entry: "Entry", unpacked: bool, registered: "Registered | None"
) -> dict[str, Any]:
    from keyferry.plugin import declaring

    told = {
        "file": str(placed.file),
        "bytes": placed.n_bytes,
        "sha256": placed.sha256,
        "name": entry.name,
        "command": entry.command,
        "version": entry.version,
        "unpacked": unpacked,
        "already_there": placed.already,
        "commands": declaring.commands(entry),
        "configuration": declaring.as_json(entry, placed.file.parent),
        "registered": None,
    }
    if registered:
        told["registered"] = {
            "already": registered.already,
            "behind": registered.behind,
            "upgrade": _upgrade(entry, registered),
        }
    return told


def _lines(
    placed: "Placed", entry: "Entry", unpacked: bool, registered: "Registered | None"
) -> Iterator[str]:
    from keyferry.plugin import declaring

    yield f"{placed.file}  {'already there' if placed.already else 'put there'}"
    yield f"sha256   {placed.sha256}"
    yield f"version  {entry.version}"
    if unpacked:
        yield "for development: the checksum covers this launcher, not the Python that it starts"
    yield ""
    register, enable = declaring.commands(entry)
    if registered:
        yield f"{'was registered' if registered.already else 'registered'} as {entry.name}"
        if registered.behind:
            yield "these run another version or file of it; to have them run this one:"
            yield from (f"  {command}" for command in _upgrade(entry, registered))
        else:
            yield f"to mount it:\n  {enable}"
        return
    yield f"to register and mount it:\n  {register}\n  {enable}"
    yield "or, in place of the first, in the server's configuration file:"
    yield from (f"  {line}" for line in declaring.as_hcl(entry, placed.file.parent).splitlines())
    yield "  # the file must be at each node before it starts; an upgrade has both versions' blocks"
    yield "to have a mount of an earlier version run this one:"
    yield from (f"  {command}" for command in declaring.upgrade_commands(entry, [declaring.MOUNT]))


def _upgrade(entry: "Entry", registered: "Registered") -> list[str]:
    from keyferry.plugin import declaring

    return declaring.upgrade_commands(entry, registered.behind) if registered.behind else []
