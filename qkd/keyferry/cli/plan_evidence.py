"""Earlier blocks of a site, as its store has kept them, to plan later ones from."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keyferry.audit.offline import opened
from qkd_core.errors import ConfigError
from qkd_core.types.blocks import Tallies
from qkd_core.types.ids import BlockId
from qkd_core.types.plans import DecoySettings, digest_of_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Blocks with the same settings, the newest first; ``digest`` is over their certificates."""

    blocks: tuple[BlockId, ...]
    provenance: tuple[str, ...]
    digest: str
    tallies: tuple[Tallies, ...]

    def as_json(self) -> dict[str, Any]:
        """What is told of them."""
        return {
            "blocks": len(self.blocks),
            "newest": self.blocks[0],
            "oldest": self.blocks[-1],
            "provenance": self.provenance,
            "digest": self.digest,
        }


def earlier_blocks(store: Path, settings: DecoySettings, at_most: int) -> Evidence:
    """The newest blocks that ``store`` keeps and that were made with ``settings``.

    Reads without changing anything; the site may be running. Raises ConfigError for none, and
    for a certificate that is not what its digest says.
    """
    found: list[tuple[BlockId, dict[str, Any]]] = []
    with opened(store) as connection:
        for block_id, certificate in _certificates(connection, store):
            if certificate["plan"]["settings"] == _as_told(settings):
                found.append((block_id, certificate))
            if len(found) == at_most:
                break
    if not found:
        raise ConfigError(f"{store}: keeps no block with the settings of link.pulses to plan from")
    certificates = [certificate for _, certificate in found]
    return Evidence(
        blocks=tuple(block_id for block_id, _ in found),
        provenance=tuple(sorted({each["provenance"] for each in certificates})),
        digest=digest_of_json({"certificates": [each["digest"] for each in certificates]}),
        tallies=tuple(_tallies(each["tallies"]) for each in certificates),
    )


def _certificates(
    connection: sqlite3.Connection, store: Path
) -> Iterator[tuple[BlockId, dict[str, Any]]]:
    """Of available blocks, the newest first. Raises ConfigError."""
    rows = connection.execute(
        "SELECT block_id, certificate FROM blocks WHERE state = 'available' ORDER BY block_id DESC"
    )
    for block_id, text in rows:
        try:
            certificate = json.loads(text)
            told = digest_of_json({k: v for k, v in certificate.items() if k != "digest"})
            whole = told == certificate["digest"]
        except (ValueError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise ConfigError(f"{store}: the certificate of block {block_id} is damaged")
        yield BlockId(block_id), certificate


def _as_told(settings: DecoySettings) -> dict[str, Any]:
    """As a certificate has it."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return told


def _tallies(told: dict[str, Any]) -> Tallies:
    return Tallies(
        n_pulses=told["n_pulses"],
        key_counts=tuple(told["key_counts"]),
        test_counts=tuple(told["test_counts"]),
        test_errors=tuple(told["test_errors"]),
    )
