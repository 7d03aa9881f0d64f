"""Comparing the two sites' KMSs: what the API process and the jobs process of a site do for it."""

from dataclasses import dataclass
from functools import partial

from flask import Blueprint

from keyferry.clock import SystemClock
from keyferry.comparing.answering import ComparisonAnswers
from keyferry.comparing.initiating import Comparing, ComparingSite
from keyferry.comparing.looking import Looking, Place
from keyferry.config.site import SiteSettings
from keyferry.jobs.standing import Standing
from keyferry.peer.comparing import HttpComparisonPeer
from keyferry.peer.session import PeerSession
from keyferry.store.sqlite import Store
from qkd_api.comparing import comparing
from qkd_core.keys.comparison_requests import ComparisonRequests
from qkd_kms_adapters.targets import Servers

STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class KmsComparison:
    """Both parts; which of them has to do with a policy is for its site file to say."""

    initiator: Comparing
    follower: ComparisonAnswers

    def standing(self) -> list[Standing]:
        return [
            Standing("comparing the KMSs", self.initiator.work, STEP_S),
            Standing("looking into the KMS", self.follower.work, STEP_S),
        ]


def kms_comparison(
    site: SiteSettings, store: Store, session: PeerSession, servers: Servers
) -> KmsComparison:
    """``servers``: those of the refresh runs, so that both share their logins."""
    looking = Looking(side=site.side, refreshes=store.refreshes, clock=SystemClock())
    places = [
        Place(
            entry.policy,
            entry.target.server,
            partial(entry.target.sink, entry.policy, servers),
        )
        for entry in site.policies
    ]
    parts = ComparingSite(
        looking=looking,
        allocations=store.allocations,
        comparisons=store.comparisons,
        states=store.policies,
        peer=HttpComparisonPeer(session),
    )
    return KmsComparison(
        Comparing(parts, places, site.keeping.compare_kms_s),
        ComparisonAnswers(looking, places, store.allocations, store.comparisons),
    )


def comparison_views(site: SiteSettings, store: Store) -> Blueprint:
    return comparing(
        ComparisonRequests(
            side=site.side,
            policies=[entry.policy for entry in site.policies],
            allocations=store.allocations,
            comparisons=store.comparisons,
            states=store.policies,
            clock=SystemClock(),
        )
    )
