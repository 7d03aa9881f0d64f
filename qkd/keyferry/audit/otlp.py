"""Records as OTLP logs over HTTP, for a collector.

A record counts as exported once the collector has taken it, so one may arrive twice, none is left
out; what cannot be sent now is sent later. Source: OpenTelemetry protocol 1.x, OTLP/HTTP, JSON.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from keyferry.audit.chain import COLUMNS, Record
from keyferry.audit.log_tree import unexported
from keyferry.audit.offline import kme_of, opened, records_by_time
from keyferry.audit.syslog import ALARMING
from keyferry.store.database import Database
from keyferry.store.transaction import Transaction
from qkd_core.errors import CollectorUnavailable

log = logging.getLogger(__name__)

BATCH = 500
TIMEOUT_S = 10.0
INFO, WARN = (9, "INFO"), (13, "WARN")  # severity numbers
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Collector:
    """Where records are posted. ``ca``: its authority, None for those the system trusts."""

    url: str
    ca: Path | None = None
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    def post(self, kme_id: str, records: Sequence[Record]) -> None:
        """Raises CollectorUnavailable unless all were taken."""
        self._session.trust_env = False
        try:
            answer = self._session.post(
                self.url,
                json=logs_of(kme_id, records),
                timeout=TIMEOUT_S,
                verify=True if self.ca is None else str(self.ca),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise CollectorUnavailable(f"{self.url} did not answer: {error}") from error
        if answer.status_code != 200:  # noqa: PLR2004  the only success of OTLP/HTTP
            raise CollectorUnavailable(f"{self.url} answered {answer.status_code}")
        rejected = _rejected(answer)
        if rejected:  # to be told, and not to be tried again: so says the protocol
            log.error("%s took all but %s of %d records", self.url, rejected, len(records))

    def close(self) -> None:
        self._session.close()


@dataclass(frozen=True, slots=True)
class Exporter:
    """Sends the records of a running site, each as soon as the collector takes it."""

    database: Database
    collector: Collector

    def send_new(self) -> int:
        """Send what the collector does not have, one batch; returns how many records.

        Raises CollectorUnavailable, AuditUnavailable.
        """
        batch = self._next_batch()
        if batch:
            self.collector.post(self.database.site.kme_id, batch)
            self.database.write(lambda tx: _exported(tx, batch))
        return len(batch)

    def _next_batch(self) -> list[Record]:
        batch: list[Record] = []
        with self.database.reader.snapshot() as connection:
            for chain, first, last in unexported(connection):
                rows = connection.execute(
                    f"SELECT {COLUMNS} FROM audit WHERE chain = ? AND seq BETWEEN ? AND ?"  # noqa: S608
                    " ORDER BY seq LIMIT ?",
                    (chain, first, last, BATCH - len(batch)),
                )
                batch += [Record(*row) for row in rows]
        return batch


def post_all(path: Path, collector: Collector) -> int:
    """Post every record of a store or bundle; returns how many. Raises CollectorUnavailable."""
    n_posted = 0
    with opened(path) as connection:
        kme_id = kme_of(connection)
        for batch in _batches(records_by_time(connection)):
            collector.post(kme_id, batch)
            n_posted += len(batch)
    return n_posted


def logs_of(kme_id: str, records: Sequence[Record]) -> dict[str, Any]:
    """The body of one ExportLogsServiceRequest."""
    resource = {"service.name": "keyferry", "service.instance.id": kme_id}
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeLogs": [
                    {
                        "scope": {"name": "keyferry.audit"},
                        "logRecords": [_log_record(record) for record in records],
                    }
                ],
            }
        ]
    }


def _log_record(record: Record) -> dict[str, Any]:
    event = json.loads(record.event)
    number, name = WARN if event["action"] in ALARMING else INFO
    time = str(int(record.time * NS_PER_S))
    place = {"chain": record.chain, "seq": record.seq, "hash": record.hash, "mac": record.mac}
    named = {f"audit.{name}": value for name, value in place.items() if value != ""}
    return {
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": number,
        "severityText": name,
        "eventName": event["action"],
        "body": {"stringValue": record.event},
        "attributes": _attributes(named | event["fields"]),
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}  # 64 bits are text in JSON
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
        case _:
            return {"stringValue": str(value)}


def _rejected(answer: requests.Response) -> str:
    """How many the collector says that it will never take; empty for none."""
    try:
        n_rejected = answer.json().get("partialSuccess", {}).get("rejectedLogRecords", 0)
    except (ValueError, AttributeError):
        return ""
    return "" if n_rejected in (0, "0") else str(n_rejected)


def _exported(tx: Transaction, batch: Sequence[Record]) -> None:
    newest = {record.chain: record.seq for record in batch}
    for chain, seq in newest.items():
        role, _, number = chain.rpartition("-")
        tx.write(
            "UPDATE chains SET exported = max(exported, ?) WHERE role = ? AND number = ?",
            *(seq, role, int(number)),
        )


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
