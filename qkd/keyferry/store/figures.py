"""What a site's status is made of, read in one transaction; no figure costs a walk over keys."""

import json
import sqlite3
from typing import Any

from keyferry.store.blocks import free_bytes_by_owner
from keyferry.store.epochs import oldest_epoch
from keyferry.store.epsilon_rows import ledger_in
from keyferry.store.pads import pads_left
from keyferry.store.policy_figures import policies_in, runs_counted
from keyferry.store.schema import SiteRow
from qkd_core.photons.entanglement import entanglement_of
from qkd_core.types.authentication import Lane
from qkd_core.types.figures import AuditFigures, PairLight, SiteFigures, WitnessFigures
from qkd_core.types.ids import Side

OUTCOME = "blocks "  # names of tally rows that count blocks by outcome begin so

ALARM = "alarm "  # and those that count alarms by kind


def site_figures(connection: sqlite3.Connection, site: SiteRow, writable: bool) -> SiteFigures:
    """``writable``: whether the store takes records."""
    tally = dict(connection.execute("SELECT name, value FROM tally").fetchall())
    pending = connection.execute(
        "SELECT count(*) FROM blocks INDEXED BY blocks_pending WHERE state = 'pending'"
    ).fetchone()[0]
    outcomes = {
        name.removeprefix(OUTCOME): int(value)
        for name, value in tally.items()
        if name.startswith(OUTCOME)
    }
    newest = connection.execute(
        "SELECT qber, certificate FROM blocks ORDER BY block_id DESC LIMIT 1"
    ).fetchone()
    runs, light = runs_counted(tally), tally.get("pair_light")
    return SiteFigures(
        blocks={**outcomes, "pending": pending},
        qber=None if newest is None else newest[0],
        secret_bits=int(tally.get("secret_bits", 0)),
        link_s=float(tally.get("link_s", 0)),
        free_bytes=free_bytes_by_owner(connection, site.side),
        keys_delivered=int(tally.get("keys_delivered", 0)),
        refreshes=runs,
        policies=policies_in(connection, {policy for policy, _ in runs}),
        pool_pads={
            (sender.value, lane.name.lower()): pads_left(connection, sender, lane)
            for sender in Side
            for lane in Lane
        },
        last_discard=tally.get("last_discard"),
        paused=bool(tally.get("paused", 0)),
        orphaned_keys=int(tally.get("orphaned_keys", 0)),
        alarms={
            name.removeprefix(ALARM): int(value)
            for name, value in tally.items()
            if name.startswith(ALARM)
        },
        oldest_epoch=oldest_epoch(connection),
        reconciled_at=None if (at := tally.get("reconciled_at")) is None else int(at),
        audit=_audit_figures(connection, writable),
        witness=_witness_figures(connection, tally),
        epsilon=ledger_in(connection).figures(site.link_id),
        entanglement=None if newest is None else entanglement_of(newest[1]),
        pair_light=PairLight.from_fields(json.loads(light)) if light else None,
    )


def _witness_figures(connection: sqlite3.Connection, tally: dict[str, Any]) -> WitnessFigures:
    state, peer_state = connection.execute(
        "SELECT witness.state, witness_peer.state FROM witness, witness_peer"
    ).fetchone()
    return WitnessFigures(
        state=state,
        peer_state=peer_state,
        bytes_passed_over=int(tally.get("bytes_passed_over", 0)),
        pads_passed_over=int(tally.get("pads_passed_over", 0)),
        keys_burnt=int(tally.get("keys_burnt_unclean", 0)),
    )


def _audit_figures(connection: sqlite3.Connection, writable: bool) -> AuditFigures:
    """Both sizes are found at the end of the table's own order."""
    signed, countersigned = connection.execute(
        "SELECT coalesce((SELECT size FROM checkpoints ORDER BY size DESC LIMIT 1), 0),"
        " coalesce((SELECT size FROM checkpoints WHERE countersignature IS NOT NULL"
        " ORDER BY size DESC LIMIT 1), 0)"
    ).fetchone()
    return AuditFigures(writable=writable, signed=signed, countersigned=countersigned)
