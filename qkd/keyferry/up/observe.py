"""What the two running sites say of themselves, read from their metrics endpoints."""

from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families

from keyferry.up.layout import HOST
from keyferry.up.ports import Ports
from qkd_core.types.ids import Side

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One scrape of one site; counts since its store began."""

    blocks: dict[str, int]
    qber: float | None
    secret_bits: int
    link_s: float
    stored_keys: dict[str, int]
    keys_delivered: int
    refreshes: dict[tuple[str, str], int]
    paused: bool = False
    alarms: int = 0

    @property
    def available(self) -> int:
        return self.blocks.get("available", 0)

    @property
    def discarded(self) -> dict[str, int]:
        """By reason; a reason begins with a capital letter, a state of a block does not."""
        return {name: n for name, n in self.blocks.items() if name[:1].isupper() and n}

    def refreshed(self, state: str) -> int:
        return sum(n for (_, at), n in self.refreshes.items() if at == state)


def observe(ports: Ports, side: Side) -> SiteView | None:
    """None while the site does not answer."""
    session = requests.Session()
    session.trust_env = False
    try:
        url = f"http://{HOST}:{ports.site(side).metrics}/metrics"
        answer = session.get(url, timeout=TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException:
        return None
    finally:
        session.close()
    return parsed(answer.text)


def parsed(text: str) -> SiteView | None:
    """The figures in a Prometheus text page; None when the store behind it does not answer."""
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def one(name: str, default: float = 0.0) -> float:
        return next((value for _, value in samples.get(name, [])), default)

    def by(name: str, label: str) -> dict[str, int]:
        return {labels[label]: int(value) for labels, value in samples.get(name, [])}

    if one("keyferry_store_up") != 1:
        return None
    qber = one("keyferry_qber_ratio", -1.0)
    return SiteView(
        blocks=by("keyferry_blocks_total", "outcome"),
        qber=None if qber < 0 else qber,
        secret_bits=int(one("keyferry_secret_bits_total")),
        link_s=one("keyferry_link_seconds_total"),
        stored_keys=by("keyferry_stored_keys", "owner"),
        keys_delivered=int(one("keyferry_keys_delivered_total")),
        refreshes={
            (labels["policy"], labels["state"]): int(value)
            for labels, value in samples.get("keyferry_refresh_runs", [])
        },
        paused=one("keyferry_link_paused") == 1,
        alarms=sum(int(value) for _, value in samples.get("keyferry_alarms_total", [])),
    )
