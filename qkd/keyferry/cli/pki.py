"""Commands of a small certificate authority, for sites without one of their own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyferry.cli.numbers import Number

if TYPE_CHECKING:
    from keyferry.pki.authority import Credential
    from keyferry.pki.folder import PkiFolder

DIR = click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to put the certificate and its key, instead of DIRECTORY/saes and so on.",
)
DAYS = click.option("--days", type=Number(0.001, 3650), default=397, show_default=True)
CRL_DAYS = click.option(
    "--crl-days",
    type=Number(0.001, 3650),
    default=30,
    show_default=True,
    help="When the next revocation list is due; nobody is let in with an older one.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group()
def pki() -> None:
    """Issue, renew and revoke the certificates of KMEs and SAEs."""


@pki.command()
@DIR
@click.option("--name", default="Keyferry certificate authority", show_default=True)
@CRL_DAYS
@AS_JSON
def init(directory: Path, name: str, crl_days: float, as_json: bool) -> None:
    """Make a new authority in DIRECTORY, with an empty revocation list.

    \b
    Example:
      keyferry pki init pki --name "Example Bank QKD"
    """
    from keyferry.pki.folder import PkiFolder

    made = PkiFolder.init(directory, name, crl_days)
    if as_json:
        click.echo(json.dumps({"ca": str(made.authority.certificate), "crl": str(made.crl)}))
        return
    click.echo(f"{made.authority.certificate}  to every site, as [tls] ca")
    click.echo(f"{made.crl}  to every site, as [tls] crl; renew it with keyferry pki crl")


@pki.command()
@DIR
@click.argument("kind", type=click.Choice(["kme", "sae", "server"]))
@click.argument("name")
@click.option("--dns", "dns_names", multiple=True, help="A DNS name of a server; repeatable.")
@click.option("--ip", "ip_addresses", multiple=True, help="An IP address; repeatable.")
@DAYS
@OUT
@AS_JSON
def issue(  # noqa: PLR0913, PLR0917 (what a certificate says)
    directory: Path,
    kind: str,
    name: str,
    dns_names: tuple[str, ...],
    ip_addresses: tuple[str, ...],
    days: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the key and the certificate of NAME.

    A KME's certificate is for both ends of a connection, an SAE's for clients, a server's for
    servers. The private key has mode 0600.

    \b
    Examples:
      keyferry pki issue pki kme kme-a --dns kme-a.example
      keyferry pki issue pki sae sae-a --days 90
    """
    from keyferry.pki.folder import Kind

    made = _load(directory).issue(
        Kind(kind), name, dns_names=dns_names, ip_addresses=ip_addresses, days=days, out=out
    )
    _tell_of(made, as_json)


@pki.command()
@DIR
@click.argument("name")
@DAYS
@OUT
@AS_JSON
def renew(directory: Path, name: str, days: float, out: Path | None, as_json: bool) -> None:
    """Make a new key and certificate like the newest of NAME; the earlier stays good.

    A running site takes the new files within seconds, without a restart.

    \b
    Example:
      keyferry pki renew pki kme-a
    """
    _tell_of(_load(directory).renew(name, days=days, out=out), as_json)


@pki.command()
@DIR
@click.argument("name")
@click.option("--serial", help="Only the certificate with this serial number, in hex.")
@AS_JSON
def revoke(directory: Path, name: str, serial: str | None, as_json: bool) -> None:
    """Put the good certificates of NAME on the revocation list.

    Sites that read the list refuse them within seconds; copy it to those that have their own.

    \b
    Examples:
      keyferry pki revoke pki sae-a
      keyferry pki revoke pki sae-a --serial 5f0a7a3c
    """
    from qkd_core.errors import ConfigError

    try:
        number = None if serial is None else int(serial, 16)
    except ValueError:
        raise ConfigError(f"--serial {serial}: must be a number in hex") from None
    folder = _load(directory)
    serials = [f"{revoked:x}" for revoked in folder.revoke(name, number)]
    if as_json:
        click.echo(json.dumps({"name": name, "serials": serials, "crl": str(folder.crl)}))
        return
    for revoked in serials:
        click.echo(f"{name} {revoked} is revoked")
    click.echo(f"{folder.crl}")


@pki.command()
@DIR
@CRL_DAYS
@AS_JSON
def crl(directory: Path, crl_days: float, as_json: bool) -> None:
    """Sign the revocation list again, before the next one is due.

    \b
    Example, from a timer once a week:
      keyferry pki crl pki
    """
    folder = _load(directory)
    told = folder.renew_list(crl_days)
    if as_json:
        number, revoked = told.number, len(told.serials)
        click.echo(json.dumps({"crl": str(folder.crl), "number": number, "revoked": revoked}))
        return
    click.echo(f"{folder.crl}: number {told.number}, {len(told.serials)} revoked")


@pki.command()
@DIR
@AS_JSON
def show(directory: Path, as_json: bool) -> None:
    """List every certificate with its kind and days left, and the revocation list.

    \b
    Example:
      keyferry pki show pki
    """
    folder = _load(directory)
    told = _shown(folder)
    if as_json:
        click.echo(json.dumps(told))
        return
    authority, revocations = told["authority"], told["revocation_list"]
    click.echo(f"authority {authority['name']}: {authority['days_left']:.0f} days left")
    click.echo(
        f"revocation list {revocations['number']}: {revocations['revoked']} revoked,"
        f" next due in {revocations['days_left']:.1f} days"
    )
    for each in told["certificates"]:
        click.echo(
            f"{each['kind']:6}  {each['name']:20}  {each['standing']:10}"
            f"  {each['days_left']:7.1f} days  {each['serial']}"
        )


def _tell_of(made: "Credential", as_json: bool) -> None:
    files = {"cert": str(made.cert), "key": str(made.key)}
    click.echo(json.dumps(files) if as_json else "\n".join(files.values()))


def _shown(folder: "PkiFolder") -> dict[str, Any]:
    revocations = folder.revoked()
    return {
        "authority": {
            "name": folder.authority.name,
            "days_left": round(folder.authority.days_left, 3),
        },
        "revocation_list": {
            "number": revocations.number,
            "revoked": len(revocations.serials),
            "days_left": round(revocations.days_left, 3),
        },
        "certificates": [
            {
                "name": each.name,
                "kind": each.kind.value,
                "standing": each.standing.value,
                "days_left": round(each.days_left, 3),
                "serial": f"{each.serial:x}",
            }
            for each in folder.issued()
        ],
    }


def _load(directory: Path) -> "PkiFolder":
    from keyferry.pki.folder import PkiFolder

    return PkiFolder.load(directory)
