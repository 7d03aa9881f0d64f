"""`ComparisonStore` in memory."""

from dataclasses import replace

from keyferry.store.memory.policies import MemoryLead
from keyferry.store.memory.site import MemorySite
from qkd_core.types.comparing import Comparison, ComparisonAnswer, OpenComparison
from qkd_core.types.ids import KeyId


class MemoryComparisons:
    def __init__(self, site: MemorySite, lead: MemoryLead) -> None:
        self._site, self._lead = site, lead

    def newest(self, policy: str) -> Comparison:
        return self._site.comparisons.get(policy, Comparison(policy=policy))

    def record(self, comparison: Comparison) -> None:
        with self._site.lock:
            self._lead.check()
            self._site.comparisons[comparison.policy] = comparison
            self._site.audit(
                "kms_compared",
                policy=comparison.policy,
                generations=[str(generation) for generation in comparison.generations],
                bytes_compared=len(comparison.bytes_compared),
                findings=[str(finding) for finding in comparison.findings],
            )

    def note_late(self, policy: str, trouble: str) -> None:
        with self._site.lock:
            self._lead.check()
            self._site.comparisons[policy] = replace(self.newest(policy), trouble=trouble)

    def ask(self, request: OpenComparison) -> tuple[KeyId, ...]:
        with self._site.lock:
            requests = self._site.comparison_requests
            if request.request_id in requests:
                return ()
            earlier = [each for each in requests.values() if each.policy == request.policy]
            for each in earlier:
                del requests[each.request_id]
            requests[request.request_id] = request
            return tuple(key_id for each in earlier for key_id in each.keys.values())

    def request(self, request_id: str) -> OpenComparison | None:
        return self._site.comparison_requests.get(request_id)

    def unanswered(self) -> tuple[OpenComparison, ...]:
        with self._site.lock:
            requests = self._site.comparison_requests.values()
            return tuple(each for each in requests if each.answer is None)

    def answer(self, request_id: str, answer: ComparisonAnswer) -> None:
        with self._site.lock:
            self._lead.check()
            known = self.request(request_id)
            if known is not None and known.answer is None:
                self._site.comparison_requests[request_id] = replace(known, answer=answer)

    def forget(self, request_id: str) -> None:
        with self._site.lock:
            self._site.comparison_requests.pop(request_id, None)

    def expired(self, now: float) -> tuple[OpenComparison, ...]:
        with self._site.lock:
            requests = self._site.comparison_requests.values()
            return tuple(each for each in requests if each.expires_at <= now)
