"""Commands that keep a site's records, and start a site from them."""

import json
from pathlib import Path

import click

SITE = click.argument("site", type=click.Path(dir_okay=False, path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@SITE
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@AS_JSON
def backup(site: Path, file: Path, as_json: bool) -> None:
    """Write the records, configuration and certificates of SITE to FILE: no key, no pads.

    The site may be running. Key is never backed up: put back, it could be given away twice.

    \b
    Example:
      keyferry backup /etc/keyferry/site.toml kme-a.backup
    """
    from keyferry.bootstrap.backup import back_up
    from keyferry.config.site import load

    settings = load(site)
    require_room_for(file)
    parts = back_up(settings, file)
    if as_json:
        click.echo(json.dumps({"file": str(file), "holds": parts}))
    else:
        click.echo(f"{file}: {', '.join(parts)}; no key, no pads, no private keys")


@click.command()
@SITE
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@AS_JSON
def restore(site: Path, file: Path, as_json: bool) -> None:
    """Start SITE empty, with the records of the backup FILE; its store must not exist.

    The site comes back as a new incarnation. Its peer burns what both had in common, and the link
    works again when both ends were rekeyed.

    \b
    Example:
      keyferry restore /etc/keyferry/site.toml kme-a.backup
      keyferry link rekey /etc/keyferry/site.toml preshared.secret    # at both sites
    """
    from keyferry.bootstrap.backup import restore as restored_from
    from keyferry.config.site import load

    told = restored_from(load(site), file)
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"restored the records of {told['kme_id']}; the store is empty")
    click.echo("next: keyferry link rekey, at both sites and with the same new secret")


def require_room_for(file: Path) -> None:
    """Raises ConfigError unless files can be made where ``file`` is to be."""
    from tempfile import TemporaryFile

    from keyferry.private_files import written_at

    with written_at(file), TemporaryFile(dir=file.parent):
        pass
