"""One site's store in one SQLite file, open in this process.

Engine, API and jobs each open the same file; SQLite's lock puts their transactions in order.
Opening starts a thread, so a server that forks opens it in the child.
"""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from keyferry.audit.chain import Chain, open_chain
from keyferry.store.allocations import SqliteAllocations
from keyferry.store.blocks import SqliteBlocks
from keyferry.store.connection import connect, prepare_file
from keyferry.store.database import Database, Reader
from keyferry.store.figures import site_figures
from keyferry.store.pads import SqlitePads
from keyferry.store.refreshes import SqliteRefreshes
from keyferry.store.schema import SiteRow, ensure_schema
from keyferry.store.sealing import Seal, read_root_key
from keyferry.store.writer import Writer, WriterSettings
from qkd_core.errors import AuditUnavailable, ConfigError
from qkd_core.ports import Clock
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import KmeId, LinkId, Side

EPOCH_S = 3600.0  # how long one data key seals new bytes
ROLE = re.compile("[a-z]+")


@dataclass(frozen=True, slots=True)
class Opening:
    """Who opens the store, and when."""

    role: str
    time: float

    def __post_init__(self) -> None:
        if not ROLE.fullmatch(self.role):
            raise ConfigError(f"the writer's role {self.role!r} is not a word of a to z")


@dataclass(frozen=True, slots=True)
class Store:
    """The ports of one site."""

    blocks: SqliteBlocks
    allocations: SqliteAllocations
    pads: SqlitePads
    refreshes: SqliteRefreshes
    database: Database

    def figures(self) -> SiteFigures:
        side = self.database.site.side
        return self.database.read(lambda connection: site_figures(connection, side))

    def close(self) -> None:
        """Commit what is queued and let go of the file."""
        self.database.close()


def open_store(  # noqa: PLR0913  the site file has these as separate settings
    path: Path,
    *,
    root_key: Path,
    link_id: LinkId,
    side: Side,
    kme_id: KmeId,
    writer: str,
    clock: Clock,
    epoch_s: float = EPOCH_S,
) -> Store:
    """Open the store at ``path``, made when missing; ``writer`` is the role of this process.

    Raises ConfigError (another site's or a newer file, root key, file modes), AuditUnavailable
    (nothing can be written).
    """
    site = SiteRow(link_id=link_id, side=side, kme_id=kme_id)
    seal = Seal(read_root_key(root_key), link_id)
    prepare_file(path)
    chain = _begin(path, site, seal, Opening(writer, clock.now()))
    settings = WriterSettings(path=path, clock=clock, epoch_s=epoch_s)
    database = Database(site, seal, Writer(settings, chain, seal), Reader(path))
    return Store(
        blocks=SqliteBlocks(database),
        allocations=SqliteAllocations(database),
        pads=SqlitePads(database),
        refreshes=SqliteRefreshes(database),
        database=database,
    )


def _begin(path: Path, site: SiteRow, seal: Seal, opening: Opening) -> Chain:
    """Check the file, make its tables when it is empty, and open this process's audit chain."""
    with closing(connect(path)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            ensure_schema(connection, site)
            _check_root(connection, seal)
            chain = open_chain(connection, opening.role, opening.time)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise AuditUnavailable(f"the store {path} takes no records: {error}") from error
    return chain


def _check_root(connection: sqlite3.Connection, seal: Seal) -> None:
    """Raises ConfigError unless the root key opens the newest data key."""
    row = connection.execute(
        "SELECT epoch, wrapped FROM epochs WHERE wrapped IS NOT NULL ORDER BY epoch DESC LIMIT 1"
    ).fetchone()
    if row is not None:
        seal.open_with_root(row[1], "epoch", row[0])
