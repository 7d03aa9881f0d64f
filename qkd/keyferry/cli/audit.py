"""Commands about the audit log."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

PLACE = click.Path(exists=True, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of readable lines.")


@click.group()
def audit() -> None:
    """Check and read the audit log."""


@audit.command()
@click.argument("directory", type=PLACE)
@click.option("--auditor-key", type=FILE, help="The auditor's private key: checks the MACs too.")
@click.option("--signing-key", help="The site's signing key, base64, as known from elsewhere.")
@click.option("--peer-key", help="The other site's signing key, base64, as known from elsewhere.")
@click.option("--ranges", is_flag=True, help="Who signed, and what each range rests on.")
@JSON
def verify(  # noqa: PLR0913  one parameter per option
    *,
    directory: Path,
    auditor_key: Path | None,
    signing_key: str | None,
    peer_key: str | None,
    ranges: bool,
    as_json: bool,
) -> None:
    """Verify every store and bundle below DIRECTORY, offline, or one of them.

    Says what the records rest on: countersigned by the other site, signed, or chained only. Exit 1
    when a record is not as it was written. Both ends of a link are held against each other.

    \b
    Examples:
      keyferry audit verify .keyferry
      keyferry audit verify /var/lib/keyferry --auditor-key auditor.key --ranges
    """
    from itertools import permutations

    from keyferry.audit.across import against_peer
    from keyferry.audit.auditor import read_auditor_private
    from keyferry.audit.coverage import Trust
    from keyferry.audit.offline import stores_below
    from keyferry.audit.verify import verify as verify_store

    auditor = read_auditor_private(auditor_key) if auditor_key else None
    trust = Trust(signing_key=signing_key, peer_key=peer_key)
    stores = stores_below(directory)
    reports = {store: verify_store(store, auditor=auditor, trust=trust) for store in stores}
    for store, peer in permutations(stores, 2):
        found = against_peer(store, peer)
        if found is not None:
            reports[store] = reports[store].compared(found)
    for store, report in reports.items():
        if as_json:
            click.echo(json.dumps({"store": str(store)} | report.as_json()))
            continue
        verdict = "ok" if report.ok else f"{len(report.findings)} findings"
        n_records, n_chains = report.n_records, len(report.chains)
        click.echo(
            f"{store}: {n_records} records in {n_chains} chains, {verdict}; {report.rests()}"
        )
        for line in [*report.summary(), *map(str, report.ranges)] if ranges else ():
            click.echo(f"  {line}")
        for finding in report.findings:
            click.echo(f"  {finding}")
    for line in dict.fromkeys(line for report in reports.values() for line in report.not_covered()):
        click.echo(line, err=True)
    if not all(report.ok for report in reports.values()):
        sys.exit(1)


@audit.command()
@click.argument("auditor_key", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--site", type=FILE, help="Also print this site's own signing key.")
@JSON
def keys(auditor_key: Path | None, site: Path | None, as_json: bool) -> None:
    """Make the auditor's key pair in AUDITOR_KEY; show a site's signing keys.

    The private key stays with the auditor. The public one, beside it as .pem, goes to the sites:
    [audit] auditor_key. A site's signing key is made at its first start, or here.

    \b
    Examples:
      keyferry audit keys auditor.key
      keyferry audit keys --site /etc/keyferry/site.toml
    """
    from dataclasses import asdict

    from keyferry.audit.auditor import write_auditor_keys
    from qkd_core.errors import ConfigError

    if auditor_key is None and site is None:
        raise ConfigError("name a file for the auditor's key, or --site SITE, or both")
    public = None if auditor_key is None else write_auditor_keys(auditor_key)
    signing_keys = () if site is None else _signing_keys(site)
    if as_json:
        files = {"private": str(auditor_key), "public": str(public)} if public else None
        listed = [asdict(key) for key in signing_keys]
        click.echo(json.dumps({"auditor_key": files, "signing_keys": listed}))
        return
    if public is not None:
        click.echo(f"{auditor_key}: the auditor's private key; keep it away from the sites")
        click.echo(f"{public}: its public key, for [audit] auditor_key of both sites")
    for key in signing_keys:
        click.echo(f"signing key {key.number}: {key.public_key}")


def _signing_keys(site_file: Path) -> Any:
    """The keys of a site, made when there is none yet."""
    from contextlib import closing

    from keyferry.audit.signing import own_keys
    from keyferry.bootstrap.audit import signing_file
    from keyferry.bootstrap.stores import store_of
    from keyferry.config.site import load

    site = load(site_file)
    with closing(store_of(site, "cli")) as store:
        store.database.write(signing_file(site).establish)
        return store.database.read(own_keys)


@audit.command()
@click.argument("site", type=FILE)
@click.option("--lost", is_flag=True, help="The present key is gone: the new one is not endorsed.")
@JSON
def rotate(site: Path, lost: bool, as_json: bool) -> None:
    """Give SITE a new signing key, endorsed by the present one; it may be running.

    The other site follows by itself, unless the present key is lost: name the new one in its site
    file then, [audit] peer_key.

    \b
    Example:
      keyferry audit rotate /etc/keyferry/site.toml
    """
    from contextlib import closing
    from dataclasses import asdict

    from keyferry.bootstrap.audit import signing_file
    from keyferry.bootstrap.stores import store_of
    from keyferry.config.site import load

    settings = load(site)
    signing = signing_file(settings)
    with closing(store_of(settings, "cli")) as store:
        new = signing.prepare_next()
        key = store.database.write(lambda tx: signing.rotate(tx, new, lost=lost))
        signing.finish()
    click.echo(
        json.dumps(asdict(key)) if as_json else f"signing key {key.number}: {key.public_key}"
    )


@audit.command()
@click.argument("place", type=PLACE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "rfc5424", "bundle"]),
    default="jsonl",
    help="JSON lines, syslog messages, or a bundle for verify, story and completeness.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: stdout.")
@click.option("--otlp", help="Post the records to this OTLP/HTTP collector instead.")
@click.option("--otlp-ca", type=FILE, help="The collector's authority, when it is a private one.")
def export(
    place: Path, form: str, output: Path | None, otlp: str | None, otlp_ca: Path | None
) -> None:
    """Write out the audit of the store, or bundle, at PLACE.

    \b
    Examples:
      keyferry audit export /var/lib/keyferry --format rfc5424
      keyferry audit export /var/lib/keyferry --format bundle --output site-a.bundle
    """
    from keyferry.audit.export import export as lines_of
    from keyferry.audit.offline import store_at
    from keyferry.audit.otlp import Collector, post_all
    from keyferry.config.audit import collector_url
    from keyferry.private_files import write_private_parts

    store = store_at(place)
    if otlp is not None:
        n_posted = post_all(store, Collector(collector_url(otlp), otlp_ca))
        click.echo(f"{n_posted} records posted to {otlp}")
        return
    lines = lines_of(store, form)
    if output is None:
        for line in lines:
            click.echo(line)
        return
    write_private_parts(output, (f"{line}\n".encode() for line in lines))
    click.echo(f"{output}: the audit of {store}, as {form}")


@audit.command()
@click.argument("key_id")
@click.argument("places", nargs=-1, type=PLACE)
@click.option("--site", type=FILE, help="Read this site's store, and ask the other site's KME.")
@JSON
def story(key_id: str, places: tuple[Path, ...], site: Path | None, as_json: bool) -> None:
    """Tell the story of one key over both sites, in order of time.

    PLACES are the two sites' state directories or bundles.

    \b
    Examples:
      keyferry audit story 9ff75ee0-40fc-4c28-98a3-ab746938b32d .keyferry/a .keyferry/b
      keyferry audit story 9ff75ee0-40fc-4c28-98a3-ab746938b32d --site /etc/keyferry/site.toml
    """
    from keyferry.audit.offline import stores_below
    from keyferry.audit.story import story as told
    from keyferry.config.site import load
    from keyferry.peer.audit import story_over_api
    from qkd_core.errors import ConfigError, KeyNotFound
    from qkd_core.types.ids import KeyId

    if bool(places) == (site is not None):
        raise ConfigError("name the state directories or bundles of the sites, or --site SITE")
    if site is not None:
        entries = story_over_api(load(site), KeyId(key_id))
    else:
        stores = dict.fromkeys(store for place in places for store in stores_below(place))
        entries = told(KeyId(key_id), list(stores))
    if not entries:
        raise KeyNotFound(f"no record names key {key_id}")
    for entry in entries:
        click.echo(json.dumps(entry.as_json()) if as_json else entry.line())


@audit.command()
@click.argument("place", required=False, type=PLACE)
@click.argument("other", required=False, type=PLACE)
@click.option("--site", type=FILE, help="Read this site's store, and ask the other site's KME.")
@JSON
def completeness(place: Path | None, other: Path | None, site: Path | None, as_json: bool) -> None:
    """Check that the records of both sites account for every key, from its beginning to its end.

    PLACE and OTHER are state directories or bundles of the two ends of a link. With --site the
    other site's log is fetched up to its newest checkpoint and compared once it verifies. Exit 1
    when something is not accounted for.

    \b
    Examples:
      keyferry audit completeness .keyferry/a .keyferry/b
      keyferry audit completeness --site /etc/keyferry/site.toml
    """
    from dataclasses import asdict

    from keyferry.audit.completeness import completeness as compare
    from keyferry.audit.offline import store_at
    from keyferry.config.site import load
    from keyferry.peer.audit import completeness_over_api
    from qkd_core.errors import ConfigError

    if site is not None and place is None:
        found = completeness_over_api(load(site))
    elif site is None and place is not None and other is not None:
        found = compare(store_at(place), store_at(other))
    else:
        raise ConfigError("name the state directories or bundles of both sites, or --site SITE")
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        click.echo(f"{found.n_keys} keys, {found.n_open} of them under way")
        for line in _listed("explained", found.explained):
            click.echo(line)
        for line in _listed("NOT ACCOUNTED FOR", found.discrepancies):
            click.echo(line)
        click.echo("complete" if found.ok else f"{len(found.discrepancies)} discrepancies")
    if not found.ok:
        sys.exit(1)


def _listed(title: str, entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        yield f"  {title}: {entry}"
