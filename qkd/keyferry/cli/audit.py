"""Commands about the audit log."""

import json
import sys
from pathlib import Path

import click


@click.group()
def audit() -> None:
    """Check and read the audit log."""


@audit.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each store.")
def verify(directory: Path, as_json: bool) -> None:
    """Verify every store below DIRECTORY, offline; exit 1 when a record is not as it was written.

    \b
    Example:
      keyferry audit verify .keyferry
    """
    from keyferry.audit.verify import NOT_COVERED
    from keyferry.audit.verify import verify as verify_store
    from keyferry.config import STORE_FILE
    from qkd_core.errors import ConfigError

    stores = sorted(directory.rglob(STORE_FILE))
    if not stores:
        raise ConfigError(f"{directory}: holds no {STORE_FILE}")
    reports = {store: verify_store(store) for store in stores}
    for store, report in reports.items():
        n_records = sum(report.chains.values())
        findings = [str(finding) for finding in report.findings]
        if as_json:
            told = {"store": str(store), "records": n_records, "findings": findings}
            click.echo(json.dumps(told))
            continue
        verdict = "ok" if report.ok else f"{len(findings)} findings"
        click.echo(f"{store}: {n_records} records in {len(report.chains)} chains, {verdict}")
        for finding in findings:
            click.echo(f"  {finding}")
    click.echo(NOT_COVERED, err=True)
    if not all(report.ok for report in reports.values()):
        sys.exit(1)
