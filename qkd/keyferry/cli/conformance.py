"""The command that asks a KME whether it keeps to ETSI GS QKD 014."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from keyferry.conformance.caller import SaeFiles

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("url")
@click.option("--ca", required=True, type=FILE, help="The authority of the KMEs' certificates.")
@click.option("--sae-a", required=True, metavar="CERT,KEY[,ID]", help="An SAE at URL.")
@click.option("--sae-b", required=True, metavar="CERT,KEY[,ID]", help="An SAE at the other KME.")
@click.option("--sae-c", required=True, metavar="CERT,KEY[,ID]", help="Another one there.")
@click.option("--peer-url", help="The other KME; without it, URL serves all three SAEs.")
@click.option(
    "--draw-dry", is_flag=True, help="Use up all keys of a large pool, to see that it ends in 503."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def conformance(  # noqa: PLR0913 (three SAEs, two addresses, one authority)
    *,
    url: str,
    ca: Path,
    sae_a: str,
    sae_b: str,
    sae_c: str,
    peer_url: str | None,
    draw_dry: bool,
    as_json: bool,
) -> None:
    """Ask the KME at URL, ours or another, whether it keeps to ETSI GS QKD 014 V1.1.1.

    Every check is made over mutual TLS, by clause; it passes, fails with a reason, or cannot be
    made with this KME. Where the standard is silent, the check is marked as Keyferry's decision,
    and a KME that does otherwise differs. The exit code is 1 when a check failed.

    Some hundred keys are used up, and a small pool is drawn dry. An SAE's ID is read from its
    certificate unless it is given.

    \b
    Example, while keyferry up runs:
      keyferry conformance $URL_A --peer-url $URL_B --ca .keyferry/pki/ca.pem \\
        --sae-a .keyferry/saes/sae-a.pem,.keyferry/saes/sae-a.key \\
        --sae-b .keyferry/saes/sae-b.pem,.keyferry/saes/sae-b.key \\
        --sae-c .keyferry/saes/sae-c.pem,.keyferry/saes/sae-c.key
    """
    from keyferry.conformance.caller import Caller
    from keyferry.conformance.report import Parties, Verdict, counted, rows
    from keyferry.conformance.report import as_json as rendered
    from keyferry.conformance.suite import CHECKS

    parties = Parties(
        Caller(url, ca, _files("--sae-a", sae_a)),
        Caller(peer_url or url, ca, _files("--sae-b", sae_b)),
        Caller(peer_url or url, ca, _files("--sae-c", sae_c)),
        draw_dry,
    )
    found = []
    for row in rows(CHECKS, parties):
        found.append(row)
        if not as_json:
            click.echo(row.as_line())
    counts = counted(found)
    if as_json:
        click.echo(rendered(found))
    else:
        click.echo(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    if counts[Verdict.FAIL]:
        sys.exit(1)


def _files(option: str, text: str) -> "SaeFiles":
    from keyferry.conformance.caller import SaeFiles
    from qkd_core.errors import ConfigError

    parts = text.split(",")
    if not 2 <= len(parts) <= 3 or not all(parts):  # noqa: PLR2004 (as its metavar says)
        raise ConfigError(f"{option} {text}: must be CERT,KEY or CERT,KEY,ID")
    cert, key = Path(parts[0]), Path(parts[1])
    return SaeFiles(parts[2] if parts[2:] else _named_in(option, cert), cert, key)


def _named_in(option: str, cert: Path) -> str:
    """The SAE ID that a certificate carries: our URI, else the one DNS name, else the CN."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from qkd_api.identity import sae_named_by
    from qkd_core.errors import ConfigError

    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {cert}: no certificate: {error}") from error
    uris: list[str] = []
    dns_names: list[str] = []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        dns_names = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        pass
    common = [
        str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    for found in (sae_named_by(uris), dns_names, common):
        if len(found) == 1:
            return found[0]
    raise ConfigError(f"{option} {cert}: names no SAE: give its ID as CERT,KEY,ID")
