"""Figures as Prometheus reads them, from a real scrape."""

import math
import socket
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from qkd_api.metrics import MetricsServer, OutlookCollector, SiteCollector
from qkd_api.server import bound
from qkd_core.errors import AuditUnavailable
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.figures import (
    Coincidences,
    Entanglement,
    EpsilonFigures,
    OldestEpoch,
    PairLight,
    PolicyFigures,
    PoolLevel,
    SiteFigures,
)
from qkd_core.types.ids import BlockId, KmeId, LinkId

FIGURES = SiteFigures(
    blocks={"available": 3, "NotAccepted": 1},
    qber=0.0125,
    secret_bits=1000,
    link_s=12.5,
    free_bytes={"a": 100, "b": 64},
    keys_delivered=7,
    refreshes={("nightly", "done"): 2},
    policies={
        "nightly": PolicyFigures(
            generation=2, active_since=990.0, newest="blocked", under_way="blocked", paused=True
        ),
        "new": PolicyFigures(late=True),
        "vain": PolicyFigures(newest="aborted", refused=True),
    },
    pool_pads={("a", "pool"): 500, ("b", "reserve"): 1024},
    paused=True,
    orphaned_keys=3,
    alarms={"peer_violation": 2},
    oldest_epoch=OldestEpoch(7, 1.75e9),
)


POLICY_FIGURES = ("generation", "late", "refused", "aborted", "blocked", "paused")


@pytest.fixture
def scrape():
    servers = []

    def run(figures, *others):
        registry = CollectorRegistry()
        registry.register(SiteCollector(figures, key_size=256, now=lambda: 1000.0))
        for other in others:
            registry.register(other)
        server = MetricsServer(bound("127.0.0.1", 0), registry)
        server.start()
        servers.append(server)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def test_each_policy_that_the_store_knows_of_has_its_samples(scrape):
    found = {name: value for name, value in scrape(lambda: FIGURES).items() if is_of_a_policy(name)}
    assert found.pop(("keyferry_refresh_age_seconds", "nightly")) == 10  # the only active one
    assert found == {
        (f"keyferry_refresh_{figure}", policy): value
        for policy, figures in {
            "nightly": {"generation": 2, "blocked": 1, "paused": 1},
            "new": {"late": 1},
            "vain": {"aborted": 1, "refused": 1},
        }.items()
        for figure, value in (dict.fromkeys(POLICY_FIGURES, 0) | figures).items()
    }


def test_the_age_of_a_generation_is_never_negative(scrape):
    figures = replace(FIGURES, policies={"nightly": PolicyFigures(active_since=2000.0)})
    assert scrape(lambda: figures)["keyferry_refresh_age_seconds", "nightly"] == 0


def is_of_a_policy(name):
    return name[0].startswith("keyferry_refresh_") and name[0] != "keyferry_refresh_runs"


def test_every_other_figure_has_its_sample(scrape):
    found = scrape(lambda: FIGURES)
    assert {name: value for name, value in found.items() if not is_of_a_policy(name)} == {
        ("keyferry_store_up",): 1,
        ("keyferry_blocks_total", "available"): 3,
        ("keyferry_blocks_total", "NotAccepted"): 1,
        ("keyferry_qber_ratio",): 0.0125,
        ("keyferry_secret_bits_total",): 1000,
        ("keyferry_link_seconds_total",): 12.5,
        ("keyferry_stored_bytes", "a"): 100,
        ("keyferry_stored_bytes", "b"): 64,
        ("keyferry_stored_keys", "a"): 3,
        ("keyferry_stored_keys", "b"): 2,
        ("keyferry_keys_delivered_total",): 7,
        ("keyferry_refresh_runs", "done", "nightly"): 2,
        ("keyferry_link_paused",): 1,
        ("keyferry_orphaned_keys_total",): 3,
        ("keyferry_alarms_total", "peer_violation"): 2,
        ("keyferry_oldest_data_key_timestamp_seconds",): 1.75e9,
        ("keyferry_pool_pads", "a", "pool"): 500,
        ("keyferry_pool_pads", "b", "reserve"): 1024,
    }


def test_pairs_tell_their_fidelity_and_s(scrape):
    pairs = Entanglement(
        key_qber=0.01, test_qber=0.02, fidelity_min=0.97, chsh=2.744, chsh_sigma=0.01
    )
    found = scrape(lambda: replace(FIGURES, entanglement=pairs))
    assert found["keyferry_fidelity_min_ratio",] == 0.97
    assert found["keyferry_chsh",] == 2.744


def test_either_end_of_pairs_tells_its_clicks_and_side_a_its_coincidences_too(scrape):
    alone = PairLight(
        block_id=BlockId(4), rate_hz=4e5, double_clicks=120, double_clicks_expected=126.5
    )
    of_clicks = {
        ("keyferry_pair_clicks_hertz",): 4e5,
        ("keyferry_pair_double_clicks", "seen"): 120,
        ("keyferry_pair_double_clicks", "expected"): 126.5,
    }
    coincidences = Coincidences(
        rate_hz=4e4, accidental=0.004, missed=0.001, offset_s=-0.7, drift_ppm=4.2
    )
    for light, more in (
        (alone, {}),
        (
            replace(alone, coincidences=coincidences),
            {
                ("keyferry_pair_coincidences_hertz",): 4e4,
                ("keyferry_pair_accidental_ratio",): 0.004,
                ("keyferry_pair_missed_ratio",): 0.001,
                ("keyferry_pair_clock_offset_seconds",): -0.7,
                ("keyferry_pair_clock_drift_ratio",): pytest.approx(4.2e-6),
                ("keyferry_pair_car",): pytest.approx(249),
            },
        ),
    ):
        found = scrape(lambda light=light: replace(FIGURES, pair_light=light))
        told = {name: value for name, value in found.items() if "keyferry_pair" in name[0]}
        assert told == of_clicks | more


def test_what_the_link_has_cost_is_told_by_link_blocks_and_tags_apart(scrape):
    epsilon = EpsilonFigures(
        link_id=LinkId("a-b"),
        n_blocks=3,
        blocks=3e-9,
        n_tags=20,
        tags=2e-29,
        total=3.1e-9,
        since=1.7e9,
        limits=EpsilonLimits(limit=1e-6),
        alarmed=True,
        exhausted=False,
    )
    found = scrape(lambda: replace(FIGURES, epsilon=epsilon))
    told = {name: value for name, value in found.items() if "epsilon" in name[0]}
    assert told == {
        ("keyferry_epsilon_spent", "a-b", "blocks"): 3e-9,
        ("keyferry_epsilon_spent", "a-b", "tags"): 2e-29,
        ("keyferry_epsilon_limit", "a-b", "limit"): 1e-6,
        ("keyferry_epsilon_exhausted", "a-b"): 0,
    }


def test_a_store_that_does_not_answer_shows_as_down(scrape):
    def fail():
        raise AuditUnavailable("disk full")

    assert scrape(fail) == {("keyferry_store_up",): 0}


class Pool:
    def __init__(self, level):
        self.level = level


def a_level():
    return PoolLevel(
        free_bytes=600, filled_bytes_per_s=1.0, drained_bytes_per_s=3.0, drawn_bytes={}
    )


def test_what_runs_out_is_told_in_days_and_seconds(scrape):
    outlook = OutlookCollector(Pool(a_level), KmeId("kme-b"), lambda: {"kme-a": 12.5})
    found = scrape(lambda: FIGURES, outlook)

    assert found["keyferry_certificate_days_left", "kme-a"] == 12.5
    assert found["keyferry_time_to_empty_seconds", "kme-b"] == 300


def test_a_pool_that_does_not_sink_is_never_empty(scrape):
    level = replace(a_level(), filled_bytes_per_s=3.0)
    outlook = OutlookCollector(Pool(lambda: level), KmeId("kme-b"), dict)

    assert scrape(lambda: FIGURES, outlook)["keyferry_time_to_empty_seconds", "kme-b"] == math.inf


def test_certificates_are_told_while_the_store_is_down(scrape):
    def fail():
        raise AuditUnavailable("disk full")

    outlook = OutlookCollector(Pool(fail), KmeId("kme-b"), lambda: {"kme-a": 12.5})

    assert scrape(fail, outlook) == {
        ("keyferry_store_up",): 0,
        ("keyferry_certificate_days_left", "kme-a"): 12.5,
    }


def test_a_silent_scraper_does_not_hold_up_another(scrape):
    registry = CollectorRegistry()
    registry.register(SiteCollector(lambda: FIGURES, key_size=256))
    server = MetricsServer(bound("127.0.0.1", 0), registry)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.server_port)):
            url = f"http://127.0.0.1:{server.server_port}/metrics"
            with urllib.request.urlopen(url, timeout=2) as answer:
                assert b"keyferry_qber_ratio 0.0125" in answer.read()
    finally:
        server.shutdown()
        server.server_close()
