"""Records as syslog messages. Source: RFC 5424, section 6.

The structured data is named ``audit@32473``: RFC 5424 wants an enterprise number there. None is
registered for this product, and 32473 is the one that RFC 5612 reserves for documentation, which no
vendor has. A collector's rule may be made for it; it changes on the day that a number is
registered.
"""

import json
import re
from datetime import UTC, datetime

from keyferry.audit.chain import Record

AUDIT_FACILITY = 13  # "log audit", table 1
WARNING, INFORMATIONAL = 4, 6  # table 2
ALARMING = (
    *("audit_alarm", "peer_violation"),
    *("tag_failed", "tag_reflected", "tag_replayed", "tag_unknown"),
)
ENTERPRISE = 32473  # RFC 5612: kept for documentation, so that it collides with nobody's
MSGID_CHARS = 32
HOSTNAME_CHARS = 255
SPECIAL = re.compile(r'(["\\\]])')


def syslog_line(record: Record, kme_id: str) -> str:
    """One message without framing: the event as JSON, the record's place as structured data."""
    action = str(json.loads(record.event)["action"])
    severity = WARNING if action in ALARMING else INFORMATIONAL
    time = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="microseconds")
    place = {"chain": record.chain, "seq": str(record.seq), "hash": record.hash}
    if record.mac:
        place["mac"] = record.mac
    data = " ".join(f'{name}="{_escaped(value)}"' for name, value in place.items())
    return (
        f"<{8 * AUDIT_FACILITY + severity}>1 {time.replace('+00:00', 'Z')}"
        f" {_name(kme_id, HOSTNAME_CHARS)} keyferry {_name(record.chain, 128)}"
        f" {_name(action, MSGID_CHARS)} [audit@{ENTERPRISE} {data}] {record.event}"
    )


def _escaped(value: str) -> str:
    """Section 6.3.3."""
    return SPECIAL.sub(r"\\\1", value)


def _name(text: str, limit: int) -> str:
    """Printable ASCII without spaces, or the nil value."""
    return re.sub(r"[^!-~]", "_", text)[:limit] or "-"
