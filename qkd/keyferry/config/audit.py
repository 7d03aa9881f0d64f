"""The audit's settings in a site file; the table may be missing."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from qkd_core.errors import ConfigError
from qkd_core.types.settings_table import SettingsTable

PUBLIC_KEY = r"[A-Za-z0-9+/]{43}="  # 32 bytes in base64
CHECKPOINT_S = 60.0
SIGNING_FILE = "audit-signing.key"  # beside the root key


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """How the audit proves itself, and who else gets it.

    auditor_key   X25519 public key in PEM; without one the records have no MACs
    signing_key   this site's own, made at the first start; None: beside the root key
    peer_key      the other site's signing key, base64; without one the first one met is kept
    otlp          where to post records as OTLP/HTTP logs; https, or http on this machine
    """

    auditor_key: Path | None = None
    signing_key: Path | None = None
    peer_key: str | None = None
    checkpoint_s: float = CHECKPOINT_S
    otlp: str | None = None
    otlp_ca: Path | None = None


def read_audit(top: SettingsTable, folder: Path) -> AuditSettings:
    """Paths are relative to ``folder``. Raises ConfigError."""
    if not top.has("audit"):
        return AuditSettings()
    table = top.table("audit")

    def path(key: str, *, existing: bool) -> Path | None:
        if not table.has(key):
            return None
        found = folder / table.text(key)
        if existing and not found.is_file():
            raise table.refuse(key, str(found), "must be a file that exists")
        return found

    with table.checks():
        settings = AuditSettings(
            auditor_key=path("auditor_key", existing=True),
            signing_key=path("signing_key", existing=False),
            peer_key=table.text("peer_key", pattern=PUBLIC_KEY) if table.has("peer_key") else None,
            checkpoint_s=table.number("checkpoint_s", 1, 86400, CHECKPOINT_S),
            otlp=collector_url(table.text("otlp")) if table.has("otlp") else None,
            otlp_ca=path("otlp_ca", existing=True),
        )
    table.finish()
    return settings


def collector_url(url: str) -> str:
    """``url``, with the usual path when it has none. Raises ConfigError.

    Records name keys and who has them: in the clear they stay on this machine.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    if not secure or not parts.hostname:
        raise ConfigError(f"otlp = {url!r}: must be an https URL, or http to this machine")
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/logs"


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
