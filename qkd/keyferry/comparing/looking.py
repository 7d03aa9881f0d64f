"""What one site sees in its own KMS when the sites compare, and fingerprints of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from keyferry.reconcile.range_hash import range_hash
from qkd_core.errors import SinkRejected
from qkd_core.keys.comparing import STANDING, findings_in_kms, in_use
from qkd_core.ports import Clock, KeySink, ReadableSink, RefreshStore
from qkd_core.types.comparing import Finding, KmsLook
from qkd_core.types.ids import Generation, Side
from qkd_core.types.refresh import RefreshPolicy

MOST_RUNS = 200  # of a policy that are looked at; a KMS that keeps more is looked at in part


@dataclass(slots=True)
class Place:
    """Where this site puts a policy's keys.

    ``server``: what fails as one. ``make_sink``: a sink for comparisons alone, made when needed.
    """

    policy: RefreshPolicy
    server: str
    make_sink: Callable[[], KeySink]
    _sink: KeySink | None = None

    @property
    def sink(self) -> KeySink:
        if self._sink is None:
            self._sink = self.make_sink()
        return self._sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What stands there. ``secrets``: by generation, where the KMS shows bytes."""

    findings: tuple[Finding, ...]
    readable: bool
    secrets: Mapping[Generation, bytes] = field(default_factory=dict, repr=False)

    def look(self, one_time_key: Callable[[Generation], bytes | None]) -> KmsLook:
        """With fingerprints of those for which there is a key; each key serves here only once."""
        digests = {}
        for generation, secret in self.secrets.items():
            key = one_time_key(generation)
            if key is not None:
                digests[generation] = range_hash(key, secret)
        return KmsLook(findings=self.findings, readable=self.readable, digests=digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """The eyes of one site."""

    side: Side
    refreshes: RefreshStore
    clock: Clock

    def see(self, place: Place, generations: Sequence[Generation]) -> Seen:
        """Raises SinkUnavailable, SinkRejected.

        The runs are read after the KMS: what was retired meanwhile is not missed there.
        """
        policy, sink = place.policy, place.sink
        versions = sink.versions()
        runs = self.refreshes.history(policy.name, MOST_RUNS)
        used = in_use(self.refreshes.done(policy.name), self.clock.now(), policy.grace_s)
        here = [each for each in generations[:-1] if each in used]
        findings = findings_in_kms(self.side, [*here, generations[-1]], runs, versions)
        standing = {run.generation for run in runs if run.state in STANDING}
        secrets = bytes_in(sink, [each for each in generations if each in standing])
        return Seen(findings=findings, readable=secrets is not None, secrets=secrets or {})


def bytes_in(sink: KeySink, generations: Sequence[Generation]) -> Mapping[Generation, bytes] | None:
    """What stands under each; None from a KMS that shows no bytes.

    Raises SinkUnavailable.
    """
    if not hasattr(sink, "read"):
        return None
    readable = cast("ReadableSink", sink)
    try:
        found = {generation: readable.read(generation) for generation in generations}
    except SinkRejected:  # it could, and may not
        return None
    return {generation: secret for generation, secret in found.items() if secret is not None}
