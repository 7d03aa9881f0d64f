"""The tables of one site's store, and what a file must be before it is used."""

import sqlite3
from dataclasses import dataclass

from keyferry.audit.tables import AUDIT_TABLES, begin_log
from keyferry.store.comparison_tables import COMPARISON_TABLES
from keyferry.store.epsilon_rows import EPSILON_TABLES, begin_ledger
from keyferry.store.lifecycle_triggers import triggers
from keyferry.store.refresh_moves import RELEASED_STATES
from keyferry.store.witness_tables import WITNESS_TABLES, begin_witness
from qkd_core.errors import ConfigError
from qkd_core.types.ids import KmeId, LinkId, Side

SCHEMA_VERSION = 5

# `cessions`: ranges that changed their owner; those gained are free from `next` to `free_stop`.
# `notices`: deeds that the peer has not acknowledged; `heeded`: the peer's that took effect here,
# or why they never will.
# `suspicions`: when each kind was last recorded, and how many came since.
# `active_events`: generations that became active and of which nobody was told yet.
# `policies`: `too_old` is the newest generation of which an alarm said that it is.
# `leadership`: who writes refresh runs; a process with an older `fence` does not any more.
# `open_stop`: how far this site may go without asking its peer (see `witness_tables`).
# `taken` outlives blocks and keys: a byte that was once recorded is never recorded again. Blobs
# named `sealed` are nonce and AES-256-GCM-SIV box together. Partial indices keep the cost of a
# delivery apart from how much was delivered before.
TABLES = f"""
CREATE TABLE site (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  schema_version INTEGER NOT NULL,
  link_id TEXT NOT NULL,
  side TEXT NOT NULL,
  kme_id TEXT NOT NULL,
  preshared BLOB
);
CREATE TABLE tally (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE epochs (
  epoch INTEGER PRIMARY KEY AUTOINCREMENT, created_at REAL NOT NULL, wrapped BLOB,
  destroyed_at REAL
);
CREATE INDEX epochs_alive ON epochs (epoch) WHERE wrapped IS NOT NULL;

CREATE TABLE blocks (
  block_id INTEGER PRIMARY KEY, state TEXT NOT NULL, n_secret INTEGER NOT NULL,
  segment_pads INTEGER NOT NULL, provenance TEXT NOT NULL, plan_digest TEXT NOT NULL,
  tallies_digest TEXT NOT NULL, certificate TEXT NOT NULL, qber REAL NOT NULL,
  link_s REAL NOT NULL, stored_at REAL NOT NULL,
  own_next INTEGER NOT NULL, own_stop INTEGER NOT NULL, peer_free INTEGER NOT NULL,
  open_stop INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX blocks_pending ON blocks (block_id) WHERE state = 'pending';
CREATE INDEX blocks_free ON blocks (block_id) WHERE state = 'available' AND own_next < own_stop;
CREATE INDEX blocks_peer_free ON blocks (block_id) WHERE state = 'available' AND peer_free > 0;

CREATE TABLE chunks (
  block_id INTEGER NOT NULL REFERENCES blocks, chunk INTEGER NOT NULL, n_left INTEGER NOT NULL,
  epoch INTEGER NOT NULL REFERENCES epochs, sealed BLOB NOT NULL, PRIMARY KEY (block_id, chunk)
);
CREATE INDEX chunks_epoch ON chunks (epoch);

CREATE TABLE keys (
  key_id TEXT PRIMARY KEY, state TEXT NOT NULL, owner TEXT NOT NULL, master TEXT NOT NULL,
  slaves TEXT NOT NULL, ranges TEXT NOT NULL, n_bits INTEGER NOT NULL, expires_at REAL NOT NULL,
  provenance TEXT NOT NULL
);
CREATE INDEX keys_due ON keys (expires_at) WHERE state = 'allocated';
CREATE TABLE held (
  key_id TEXT PRIMARY KEY REFERENCES keys, epoch INTEGER NOT NULL REFERENCES epochs,
  sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX held_epoch ON held (epoch);
CREATE TABLE served (
  key_id TEXT NOT NULL REFERENCES keys, slave TEXT NOT NULL, served_at REAL NOT NULL,
  PRIMARY KEY (key_id, slave)
) WITHOUT ROWID;
CREATE TABLE taken (
  block_id INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, key_id TEXT NOT NULL,
  PRIMARY KEY (block_id, start)
) WITHOUT ROWID;
CREATE TABLE drawn (
  minute INTEGER NOT NULL, master TEXT NOT NULL, n_bytes INTEGER NOT NULL,
  PRIMARY KEY (minute, master)
) WITHOUT ROWID;
CREATE TABLE outbox (
  position INTEGER PRIMARY KEY AUTOINCREMENT, key_id TEXT NOT NULL UNIQUE REFERENCES keys
);

CREATE TABLE cessions (
  position INTEGER PRIMARY KEY AUTOINCREMENT, block_id INTEGER NOT NULL REFERENCES blocks,
  start INTEGER NOT NULL, stop INTEGER NOT NULL, owner TEXT NOT NULL,
  next INTEGER NOT NULL, free_stop INTEGER NOT NULL, open_stop INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX cessions_block ON cessions (block_id);
CREATE INDEX cessions_free ON cessions (block_id, next) WHERE next < free_stop;
CREATE TABLE notices (
  position INTEGER PRIMARY KEY AUTOINCREMENT, notice_id TEXT NOT NULL UNIQUE, deed TEXT NOT NULL
);
CREATE TABLE heeded (notice_id TEXT PRIMARY KEY, refused TEXT) WITHOUT ROWID;
CREATE TABLE suspicions (
  action TEXT PRIMARY KEY, minute INTEGER NOT NULL, repeats INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE confirmations (
  code TEXT PRIMARY KEY, command TEXT NOT NULL, asked_at REAL NOT NULL, asked_by TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE segments (
  sender TEXT NOT NULL, lane INTEGER NOT NULL, segment INTEGER NOT NULL,
  n_pads INTEGER NOT NULL, next INTEGER NOT NULL DEFAULT 0, proved INTEGER NOT NULL DEFAULT 0,
  open_stop INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL REFERENCES epochs, sealed BLOB NOT NULL,
  PRIMARY KEY (sender, lane, segment)
) WITHOUT ROWID;
CREATE INDEX segments_epoch ON segments (epoch);
CREATE TABLE pad_runs (
  sender TEXT NOT NULL, lane INTEGER NOT NULL, segment INTEGER NOT NULL, run INTEGER NOT NULL,
  epoch INTEGER NOT NULL REFERENCES epochs, sealed BLOB NOT NULL,
  PRIMARY KEY (sender, lane, segment, run),
  FOREIGN KEY (sender, lane, segment) REFERENCES segments ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX pad_runs_epoch ON pad_runs (epoch);
CREATE TABLE burnt_pads (
  sender TEXT NOT NULL, lane INTEGER NOT NULL, segment INTEGER NOT NULL, pad INTEGER NOT NULL,
  PRIMARY KEY (sender, lane, segment, pad),
  FOREIGN KEY (sender, lane, segment) REFERENCES segments ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE refreshes (
  position INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, policy TEXT NOT NULL,
  generation INTEGER NOT NULL, key_id TEXT NOT NULL, state TEXT NOT NULL,
  native_version INTEGER, reason TEXT, changed_at REAL NOT NULL, UNIQUE (policy, generation)
);
CREATE INDEX refreshes_bound ON refreshes (key_id) WHERE state NOT IN {RELEASED_STATES};
CREATE INDEX refreshes_unfinished ON refreshes (position) WHERE state NOT IN {RELEASED_STATES};
CREATE INDEX refreshes_done ON refreshes (policy, generation) WHERE state = 'done';
CREATE TABLE refresh_steps (
  run_id TEXT NOT NULL, step INTEGER NOT NULL, state TEXT NOT NULL, at REAL NOT NULL, note TEXT,
  PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE policies (
  name TEXT PRIMARY KEY, paused_by TEXT, due INTEGER NOT NULL DEFAULT 0, last_slot REAL,
  late_since REAL, trouble TEXT, too_old INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE active_events (
  position INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, policy TEXT NOT NULL,
  generation INTEGER NOT NULL, key_id TEXT NOT NULL, at REAL NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE leadership (
  one INTEGER PRIMARY KEY CHECK (one = 1), fence INTEGER NOT NULL, holder TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """Whose store this is. It never changes."""

    link_id: LinkId
    side: Side
    kme_id: KmeId


def ensure_schema(connection: sqlite3.Connection, site: SiteRow) -> None:
    """Make the tables in an empty file, inside the caller's transaction.

    Raises ConfigError when the file is of another version or of another site.
    """
    known = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'site'"
    ).fetchone()[0]
    if not known:
        tables = TABLES + COMPARISON_TABLES + EPSILON_TABLES + AUDIT_TABLES + WITNESS_TABLES
        for statement in filter(str.strip, tables.split(";")):
            connection.execute(statement)
        begin_log(connection)
        begin_witness(connection)
        begin_ledger(connection)
        for statement in triggers():
            connection.execute(statement)
        connection.execute(
            "INSERT INTO site VALUES (1, ?, ?, ?, ?, NULL)",
            (SCHEMA_VERSION, site.link_id, site.side.value, site.kme_id),
        )
    _check_row(connection, site)


def _check_row(connection: sqlite3.Connection, site: SiteRow) -> None:
    version, *owner = connection.execute(
        "SELECT schema_version, link_id, side, kme_id FROM site"
    ).fetchone()
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"the store has schema version {version}, this program needs {SCHEMA_VERSION}"
            " and converts none: start with an empty state directory"
        )
    expected = [site.link_id, site.side.value, site.kme_id]
    if owner != expected:
        raise ConfigError(f"the store belongs to {' '.join(owner)}, not {' '.join(expected)}")
