"""A site's backup, and the start from it: records and configuration, never key.

A backup that held key bits or pads would let them be used a second time. So it holds the site file,
the certificates, the ledger (what happened to every block and key) and the audit, and none of: key
bits, pads, data keys, the root key, private keys of certificates. A site that is restored starts
empty, as a new incarnation, and its link is rekeyed at both ends.
Source: `architecture.md`, section 4 (rollback).
"""

import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyferry.audit.tables import begin_log
from keyferry.config.site import SiteSettings
from keyferry.private_files import write_private
from keyferry.store.connection import connect
from qkd_core.errors import ConfigError

VERSION = 1
MANIFEST, LEDGER = "manifest.json", "ledger.sqlite"
PUBLIC_BLOBS = {("tree", "hash")}  # of the audit's tree: hashes of records, not of key
LARGEST_MEMBER = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Whose backup it is, and of when, in seconds since 1970."""

    kme_id: str
    link_id: str
    side: str
    time: float

    def check(self, site: SiteSettings) -> None:
        """Raises ConfigError unless it is this site's."""
        mine = (site.kme_id, site.link.link_id, site.side.value)
        if (self.kme_id, self.link_id, self.side) != mine:
            raise ConfigError(
                f"the backup is of {self.kme_id}, side {self.side} of {self.link_id},"
                f" not of {' '.join(mine)}"
            )


def write_backup(site: SiteSettings, file: Path, time: float) -> list[str]:
    """Put the backup into ``file``, mode 0600; returns what it holds. The site may be running.

    Raises ConfigError when the file is there already.
    """
    if file.exists():
        raise ConfigError(f"{file} exists: a backup is never overwritten")
    manifest = Manifest(
        kme_id=site.kme_id, link_id=site.link.link_id, side=site.side.value, time=time
    )
    about = {name: getattr(manifest, name) for name in Manifest.__slots__}
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as folder:
        ledger = Path(folder) / LEDGER
        copy_ledger(site.store, ledger)
        parts = {
            MANIFEST: json.dumps(about | {"version": VERSION}).encode(),
            "site.toml": site.file.read_bytes(),
            "tls/ca.pem": site.tls.ca.read_bytes(),
            "tls/cert.pem": site.tls.cert.read_bytes(),
        }
        packed = Path(folder) / "packed"
        with os.fdopen(os.open(packed, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
            _pack(out, parts, ledger)
            out.flush()
            os.fsync(out.fileno())
        os.link(packed, file)  # whole or not at all, and never over another one
    return [*parts, LEDGER]


def copy_ledger(store: Path, ledger: Path) -> None:
    """Copy the store without anything secret, sealed or not. Raises ConfigError if any is left."""
    whole = ledger.with_suffix(".whole")
    os.close(os.open(whole, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(connect(store, read_only=True)) as source, closing(sqlite3.connect(whole)) as copy:
        source.backup(copy)
        copy.isolation_level = None
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("PRAGMA foreign_keys = OFF")
        copy.execute("BEGIN")
        for table, column in blob_columns(copy):
            if column == "sealed":
                copy.execute(f"DELETE FROM {table}")  # noqa: S608  names of our own tables
        copy.execute(
            "UPDATE epochs SET wrapped = NULL, destroyed_at = coalesce(destroyed_at, created_at)"
        )
        copy.execute("UPDATE site SET preshared = NULL")
        for table in ("outbox", "notices", "fresh", "confirmations"):
            copy.execute(f"DELETE FROM {table}")  # noqa: S608  our own names
        copy.execute("COMMIT")
        require_no_secrets(copy)
        os.close(os.open(ledger, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        copy.execute("VACUUM INTO ?", (str(ledger),))  # without the pages of what was deleted
    whole.unlink()


def blob_columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every column of the type of sealed boxes, as (table, column)."""
    return connection.execute(
        "SELECT tables.name, columns.name FROM sqlite_schema AS tables,"
        " pragma_table_info(tables.name) AS columns"
        " WHERE tables.type = 'table' AND columns.type = 'BLOB'"
    ).fetchall()


def require_no_secrets(connection: sqlite3.Connection) -> None:
    """Raises ConfigError when a column that could hold a sealed box is not empty."""
    for table, column in blob_columns(connection):
        if (table, column) in PUBLIC_BLOBS:
            continue
        left = connection.execute(
            f"SELECT count({column}) FROM {table}"  # noqa: S608  names of our own tables
        ).fetchone()[0]
        if left:
            raise ConfigError(f"{table}.{column} holds {left} boxes: not for a backup")


def read_ledger(site: SiteSettings, file: Path) -> Manifest:
    """Put the ledger of a backup where the site's store is to be; returns whose it was.

    The audit goes on under a new name: what was recorded after the backup is not in it. Raises
    ConfigError when there is a store already, or the file is no backup of this site.
    """
    if site.store.exists():
        raise ConfigError(f"{site.store} exists: a backup is restored where there is no store")
    with _unpacked(file) as parts:
        try:
            about = json.loads(parts.joinpath(MANIFEST).read_text(encoding="utf-8"))
            if about.pop("version") != VERSION:
                raise ConfigError(f"{file}: a backup of another version")
            manifest = Manifest(**about)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{file}: no backup of a site: {error}") from error
        manifest.check(site)
        ledger = parts / LEDGER
        with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
            try:
                require_no_secrets(connection)
                begin_log(connection)
            except sqlite3.Error as error:
                raise ConfigError(f"{file}: its ledger cannot be read: {error}") from error
        site.store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(site.store, ledger.read_bytes())
    return manifest


def _pack(out: io.BufferedIOBase, parts: dict[str, bytes], ledger: Path) -> None:
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
        archive.add(ledger, LEDGER, filter=_nameless)


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


@contextmanager
def _unpacked(file: Path) -> Iterator[Path]:
    """The manifest and the ledger in a private folder of their own."""
    with tempfile.TemporaryDirectory(prefix="keyferry-restore-") as folder:
        try:
            with tarfile.open(file, "r:gz") as archive:
                for name in (MANIFEST, LEDGER):
                    entry = archive.getmember(name)
                    content = archive.extractfile(entry)
                    if content is None or entry.size > LARGEST_MEMBER:
                        raise ConfigError(f"{file}: {name} is no plain file")
                    write_private(Path(folder) / name, content.read())
        except (OSError, tarfile.TarError, KeyError) as error:
            raise ConfigError(f"{file}: no backup of a site: {error}") from error
        yield Path(folder)
