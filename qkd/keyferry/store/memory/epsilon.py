"""`EpsilonLedger` in memory; what spends is with the blocks and the pads."""

from dataclasses import replace

from keyferry.store.memory.site import MemorySite
from qkd_core.types.epsilon import EpsilonLimits
from qkd_core.types.figures import EpsilonFigures
from qkd_core.types.plans import SecurityPolicy


class MemoryEpsilon:
    def __init__(self, site: MemorySite) -> None:
        self._site = site

    def set_limits(self, limits: EpsilonLimits) -> None:
        site = self._site
        with site.lock:
            if site.ledger.limits != limits:
                site.ledger = replace(site.ledger, limits=limits, alarmed=False)
                site.audit("epsilon_limits", **limits.as_fields())
                site.raise_epsilon_alarm_if_due()

    def allows(self, policy: SecurityPolicy) -> bool:
        site = self._site
        with site.lock:
            allowed = site.ledger.allows(policy)
            if allowed is site.ledger.exhausted:
                site.ledger = replace(site.ledger, exhausted=not allowed)
                site.audit("epsilon_resumed" if allowed else "epsilon_exhausted")
                site.alarms["epsilon_exhausted"] += not allowed
            return allowed

    def figures(self) -> EpsilonFigures:
        return self._site.ledger.figures(self._site.link_id)
