"""One site's store in one SQLite file, open in this process.

Engine, API and jobs each open the same file; SQLite's lock puts their transactions in order.
Opening starts a thread, so a server that forks opens it in the child.
"""

import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from keyferry.audit.chain import Chain, open_chain
from keyferry.store.agreement import SqliteAgreement
from keyferry.store.allocations import SqliteAllocations
from keyferry.store.blocks import SqliteBlocks
from keyferry.store.comparisons import SqliteComparisons
from keyferry.store.connection import BUSY_TIMEOUT_MS, connect, prepare_file
from keyferry.store.database import Database, Reader
from keyferry.store.epochs import destroy_all_epochs
from keyferry.store.epsilon import SqliteEpsilon
from keyferry.store.evidence import Evidence, contradiction, folder_for
from keyferry.store.figures import site_figures
from keyferry.store.gate import Gate, NoWitness, PeerGate
from keyferry.store.leadership import Lead
from keyferry.store.pads import SqlitePads
from keyferry.store.policies import SqlitePolicies
from keyferry.store.pool_level import SqlitePool
from keyferry.store.records import SqliteRecords
from keyferry.store.refreshes import SqliteRefreshes
from keyferry.store.schema import SiteRow, ensure_schema
from keyferry.store.sealing import Seal, read_root_key
from keyferry.store.turnstile import Turnstile
from keyferry.store.witness import SqliteWitness
from keyferry.store.writer import Writer, WriterSettings
from qkd_core.errors import AuditUnavailable, ConfigError
from qkd_core.ports import Clock
from qkd_core.types.figures import SiteFigures
from qkd_core.types.ids import KmeId, LinkId, Side

EPOCH_S = 3600.0  # how long one data key seals new bytes
LOOKS, LOOK_AGAIN_S = 4, 0.02  # before a store counts as older than what was noted of it
ROLE = re.compile("[a-z]+")


@dataclass(frozen=True, slots=True)
class Opening:
    """Who opens the store, and when."""

    role: str
    time: float
    auditor: X25519PublicKey | None

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
    policies: SqlitePolicies
    comparisons: SqliteComparisons
    pool: SqlitePool
    agreement: SqliteAgreement
    records: SqliteRecords
    witness: SqliteWitness
    epsilon: SqliteEpsilon
    database: Database

    def figures(self) -> SiteFigures:
        site, writable = self.database.site, self.database.writer.writable
        return self.database.read(lambda connection: site_figures(connection, site, writable))

    @property
    def gate(self) -> Gate:
        """What this process asks before it delivers, consumes or tags."""
        return self.database.gate

    def destroy_data_keys(self, reason: str) -> None:
        """Whatever was sealed in this store is beyond recovery, also in old copies of its file."""
        self.database.write(lambda tx: destroy_all_epochs(tx, reason))

    def close(self) -> None:
        """Commit what is queued and let go of the file."""
        self.database.close()
        self.witness.evidence.close()


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
    auditor: X25519PublicKey | None = None,
    witnessed: bool = False,
) -> Store:
    """Open the store at ``path``, made when missing; ``writer`` is the role of this process.

    ``auditor`` can check the MACs of its records; without one there are none.

    ``witnessed``: nothing is delivered, consumed or tagged before the peer has let the site open.

    Raises ConfigError (another site's or a newer file, root key, file modes), AuditUnavailable
    (nothing can be written).
    """
    site = SiteRow(link_id=link_id, side=side, kme_id=kme_id)
    seal = Seal(read_root_key(root_key), link_id)
    prepare_file(path)
    chain = _begin(path, site, seal, Opening(writer, clock.now(), auditor))
    reader = Reader(path)
    evidence, why = _evidence(path, reader, chain) if witnessed else (Evidence(None), None)
    settings = WriterSettings(
        path=path, clock=clock, epoch_s=epoch_s, witnessed=witnessed, committed=evidence.note
    )
    gate: Gate = PeerGate() if witnessed else NoWitness()
    database = Database(site, seal, Writer(settings, chain, seal), reader, gate)
    witness = SqliteWitness(database, evidence)
    if why is not None:
        witness.roll_back(why)
    lead = Lead()
    return Store(
        blocks=SqliteBlocks(database),
        allocations=SqliteAllocations(database),
        pads=SqlitePads(database),
        refreshes=SqliteRefreshes(database, lead),
        policies=SqlitePolicies(database, lead),
        comparisons=SqliteComparisons(database, lead),
        pool=SqlitePool(database, clock),
        agreement=SqliteAgreement(database),
        records=SqliteRecords(database),
        witness=witness,
        epsilon=SqliteEpsilon(database),
        database=database,
    )


def _evidence(path: Path, reader: Reader, chain: Chain) -> tuple[Evidence, str | None]:
    """What this machine remembers of the store, and what of it the store does not have."""
    with reader.snapshot() as connection:
        log_id = connection.execute("SELECT log_id FROM audit_log").fetchone()[0]
    evidence = Evidence(folder_for(path, log_id))
    why = _contradiction(evidence, reader)
    if why is None:
        evidence.follow(chain)
    return evidence, why


def _contradiction(evidence: Evidence, reader: Reader) -> str | None:
    """Looked for again before it is believed: a note can be read while it is being written."""
    why = None
    for _ in range(LOOKS):
        noted = evidence.noted()
        with reader.snapshot() as connection:
            why = contradiction(connection, noted)
        if why is None:
            break
        time.sleep(LOOK_AGAIN_S)
    return why


def _begin(path: Path, site: SiteRow, seal: Seal, opening: Opening) -> Chain:
    """Check the file, make its tables when it is empty, and open this process's audit chain."""
    try:
        with (
            closing(connect(path)) as connection,
            closing(Turnstile(path, BUSY_TIMEOUT_MS / 1000)) as turnstile,
            turnstile.passed(),
        ):
            connection.execute("BEGIN IMMEDIATE")
            ensure_schema(connection, site)
            _check_root(connection, seal)
            chain = open_chain(connection, opening.role, opening.time, opening.auditor)
            connection.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise AuditUnavailable(f"the store {path} takes no records: {error}") from error
    return chain


def _check_root(connection: sqlite3.Connection, seal: Seal) -> None:
    """Raises ConfigError unless the root key opens the newest data key."""
    row = connection.execute(
        "SELECT epoch, wrapped FROM epochs WHERE wrapped IS NOT NULL ORDER BY epoch DESC LIMIT 1"
    ).fetchone()
    if row is not None:
        seal.open_with_root(row[1], "epoch", row[0])
