"""Figures for Prometheus, on a plain HTTP port of their own: counts and rates, never key bytes."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Counter, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from qkd_core.errors import QkdError
from qkd_core.keys.forecast import time_to_empty_s
from qkd_core.ports import PoolGauge
from qkd_core.types.figures import (
    AuditFigures,
    EpsilonFigures,
    PairLight,
    PolicyFigures,
    SiteFigures,
    WitnessFigures,
)
from qkd_core.types.ids import KmeId
from qkd_core.types.keys import RefreshState
from qkd_core.types.witness import SiteState


class SiteCollector(Collector):
    """Reads the site's figures at each scrape; ``key_size``, in bits, makes keys of bytes.

    Label values are sides, lanes, states, configured names and error classes: a bounded number.
    """

    def __init__(
        self,
        figures: Callable[[], SiteFigures],
        key_size: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._figures, self._key_bytes, self._now = figures, key_size // 8, now

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._figures()
        except QkdError:
            yield GaugeMetricFamily("keyferry_store_up", "Whether the store answers", 0)
            return
        yield GaugeMetricFamily("keyferry_store_up", "Whether the store answers", 1)
        yield from self._of_the_link(figures)
        yield from self._of_the_keys(figures)
        yield from _of_the_policies(figures.policies, self._now())
        yield from _of_the_agreement(figures)
        if figures.audit is not None:
            yield from _of_the_audit(figures.audit)
        if figures.witness is not None:
            yield from _of_the_witness(figures.witness)
        if figures.epsilon is not None:
            yield from _of_the_epsilon(figures.epsilon)

    def _of_the_link(self, figures: SiteFigures) -> Iterator[Metric]:
        blocks = CounterMetricFamily("keyferry_blocks", "Blocks by outcome", labels=["outcome"])
        for outcome, count in figures.blocks.items():
            blocks.add_metric([outcome], count)
        yield blocks
        if figures.qber is not None:
            yield GaugeMetricFamily(
                "keyferry_qber_ratio", "Error rate of the newest stored block", figures.qber
            )
        if (pairs := figures.entanglement) is not None:
            yield GaugeMetricFamily(
                "keyferry_fidelity_min_ratio",
                "Fidelity of the newest block's pairs, at least; for monitoring",
                pairs.fidelity_min,
            )
            yield GaugeMetricFamily(
                "keyferry_chsh", "S that its correlators allow; for monitoring", pairs.chsh
            )
        if figures.pair_light is not None:
            yield from _of_the_pairs(figures.pair_light)
        yield CounterMetricFamily(
            "keyferry_secret_bits", "Secret bits of the stored blocks", figures.secret_bits
        )
        yield CounterMetricFamily(
            "keyferry_link_seconds", "Link time of the stored blocks", figures.link_s
        )
        pads = GaugeMetricFamily(
            "keyferry_pool_pads", "Authentication pads left", labels=["sender", "lane"]
        )
        for (sender, lane), count in figures.pool_pads.items():
            pads.add_metric([sender, lane], count)
        yield pads

    def _of_the_keys(self, figures: SiteFigures) -> Iterator[Metric]:
        stored_bytes = GaugeMetricFamily(
            "keyferry_stored_bytes", "Stored bytes that are not allocated", labels=["owner"]
        )
        stored_keys = GaugeMetricFamily(
            "keyferry_stored_keys", "Keys of the default size in them", labels=["owner"]
        )
        for owner, n_bytes in figures.free_bytes.items():
            stored_bytes.add_metric([owner], n_bytes)
            stored_keys.add_metric([owner], n_bytes // self._key_bytes)
        yield stored_bytes
        yield stored_keys
        yield CounterMetricFamily(
            "keyferry_keys_delivered", "Keys delivered to SAEs", figures.keys_delivered
        )
        runs = GaugeMetricFamily(
            "keyferry_refresh_runs", "Refresh runs by state", labels=["policy", "state"]
        )
        for (policy, state), count in figures.refreshes.items():
            runs.add_metric([policy, state], count)
        yield runs


def _of_the_pairs(light: PairLight) -> Iterator[Metric]:
    """Of the newest block; what is of coincidences, at the side that finds them."""
    yield GaugeMetricFamily(
        "keyferry_pair_clicks_hertz", "Clicks in a second of this end's detectors", light.rate_hz
    )
    doubles = GaugeMetricFamily(
        "keyferry_pair_double_clicks", "Events of several detectors, and by chance", labels=["of"]
    )
    doubles.add_metric(["seen"], light.double_clicks)
    doubles.add_metric(["expected"], light.double_clicks_expected)
    yield doubles
    if (found := light.coincidences) is None:
        return
    for name, text, value in (
        ("coincidences_hertz", "Coincidences in a second", found.rate_hz),
        ("accidental_ratio", "Which part of them is accidental", found.accidental),
        ("missed_ratio", "Which part of the true ones is outside the window", found.missed),
        ("clock_offset_seconds", "B's clock minus A's when the block began", found.offset_s),
        ("clock_drift_ratio", "By how much B's clock runs faster", 1e-6 * found.drift_ppm),
    ):
        yield GaugeMetricFamily(f"keyferry_pair_{name}", text, value)
    if found.car is not None:
        yield GaugeMetricFamily(
            "keyferry_pair_car", "True coincidences over accidental ones", found.car
        )


def _of_the_policies(policies: Mapping[str, PolicyFigures], now: float) -> Iterator[Metric]:
    """One sample a policy that the store knows of: what was once in the site file stays."""
    generation, age, late, refused, aborted, blocked, paused = (
        GaugeMetricFamily(f"keyferry_refresh_{name}", text, labels=["policy"])
        for name, text in (
            ("generation", "The active generation, 0 before the first"),
            ("age_seconds", "For how long it has been active"),
            ("late", "Whether a passing failure holds the policy up"),
            ("refused", "Whether the policy does not run until people act"),
            ("aborted", "Whether its newest run came to nothing"),
            ("blocked", "Whether its newest run waits for an operator"),
            ("paused", "Whether no new run begins at this site"),
        )
    )
    for name, figures in policies.items():
        generation.add_metric([name], figures.generation)
        if figures.active_since is not None:
            age.add_metric([name], max(0.0, now - figures.active_since))
        late.add_metric([name], figures.late)
        refused.add_metric([name], figures.refused)
        aborted.add_metric([name], figures.newest == RefreshState.ABORTED)
        blocked.add_metric([name], figures.under_way == RefreshState.BLOCKED)
        paused.add_metric([name], figures.paused)
    yield from (generation, age, late, refused, aborted, blocked, paused)


def _of_the_agreement(figures: SiteFigures) -> Iterator[Metric]:
    """What an operator must know of: kinds of alarms are a bounded number."""
    yield GaugeMetricFamily(
        "keyferry_link_paused", "Whether the link waits since the store is full", figures.paused
    )
    yield CounterMetricFamily(
        "keyferry_orphaned_keys",
        "Keys that were handed out and that the peer can never have",
        figures.orphaned_keys,
    )
    alarms = CounterMetricFamily("keyferry_alarms", "Alarms by kind", labels=["kind"])
    for kind, count in figures.alarms.items():
        alarms.add_metric([kind], count)
    yield alarms
    if figures.oldest_epoch is not None:
        yield GaugeMetricFamily(
            "keyferry_oldest_data_key_timestamp_seconds",
            "When the oldest data key was made: later key may be recovered from old copies",
            figures.oldest_epoch.created_at,
        )


def _of_the_witness(witness: WitnessFigures) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "keyferry_site_state", "1 for the state that the site is in", labels=["state"]
    )
    for each in SiteState:
        state.add_metric([each.value], float(witness.state == each))
    yield state
    yield GaugeMetricFamily(
        "keyferry_rolled_back",
        "Whether this site is older than its peer remembers",
        float(witness.state == SiteState.ROLLED_BACK),
    )
    yield CounterMetricFamily(
        "keyferry_passed_over_bytes",
        "Bytes of this half that unclean ends have cost",
        witness.bytes_passed_over,
    )
    yield CounterMetricFamily(
        "keyferry_passed_over_pads", "Pads that unclean ends have cost", witness.pads_passed_over
    )
    yield CounterMetricFamily(
        "keyferry_burnt_unclean_keys",
        "Keys burnt since they were perhaps consumed before an unclean end",
        witness.keys_burnt,
    )


def _of_the_epsilon(figures: EpsilonFigures) -> Iterator[Metric]:
    link = figures.link_id
    spent = GaugeMetricFamily(
        "keyferry_epsilon_spent",
        "What the link has cost since its pre-shared secret came, by what spent it",
        labels=["link", "by"],
    )
    spent.add_metric([link, "blocks"], figures.blocks)
    spent.add_metric([link, "tags"], figures.tags)
    limits = GaugeMetricFamily(
        "keyferry_epsilon_limit",
        "From where there is an alarm, no more block",
        labels=["link", "kind"],
    )
    for kind, value in figures.limits.as_fields().items():
        limits.add_metric([link, kind], value)
    exhausted = GaugeMetricFamily(
        "keyferry_epsilon_exhausted", "Whether no block is begun any more", labels=["link"]
    )
    exhausted.add_metric([link], figures.exhausted)
    yield from (spent, limits, exhausted)


class OutlookCollector(Collector):
    """What runs out: the pool towards ``peer``, and the certificates."""

    def __init__(
        self, pool: PoolGauge, peer: KmeId, days_left: Callable[[], Mapping[str, float]]
    ) -> None:
        self._pool, self._peer, self._days_left = pool, peer, days_left

    def collect(self) -> Iterator[Metric]:
        days = GaugeMetricFamily(
            "keyferry_certificate_days_left",
            "Days until a certificate or the revocation list ends",
            labels=["name"],
        )
        for name, left in self._days_left().items():
            days.add_metric([name], left)
        yield days
        with suppress(QkdError):  # keyferry_store_up tells of it
            empty = GaugeMetricFamily(
                "keyferry_time_to_empty_seconds",
                "Until this site's half is used up at the recent rates",
                labels=["peer"],
            )
            empty.add_metric([self._peer], time_to_empty_s(self._pool.level()))
            yield empty


def _of_the_audit(figures: AuditFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "keyferry_audit_writable", "Whether records are taken", int(figures.writable)
    )
    yield GaugeMetricFamily(
        "keyferry_audit_signed_records", "Records under the newest checkpoint", figures.signed
    )
    yield GaugeMetricFamily(
        "keyferry_audit_countersigned_records",
        "Records that the other site stands for",
        figures.countersigned,
    )


class HttpErrors:
    """Counts the error answers of the API by status code."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count = Counter(
            "keyferry_http_errors", "Error answers by status code", ["code"], registry=registry
        )

    def note(self, status: int) -> None:
        if status >= 400:  # noqa: PLR2004 (where errors begin)
            self._count.labels(code=str(status)).inc()


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a registry on a socket that is bound already, so that a taken port shows early."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, registry: CollectorRegistry) -> None:
        super().__init__(listener.getsockname(), Silent, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()
        self.set_app(make_wsgi_app(registry))

    def start(self) -> None:
        self.server_activate()
        Thread(target=self.serve_forever, name="metrics", daemon=True).start()


class Silent(WSGIRequestHandler):
    """A scrape leaves no line in the log, and one that says nothing for 10 s is dropped."""

    timeout = 10

    def log_message(self, format: str, *args: object) -> None:
        pass
