"""What the two engines of a link have agreed on."""

from dataclasses import dataclass

from qkd_core.errors import ProvenanceRefused
from qkd_core.proofs.terms import Terms
from qkd_core.types.ids import LinkId, Provenance
from qkd_core.types.plans import SecurityPolicy
from qkd_core.types.vendor import Agreed


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTerms:
    """What both sites have agreed for their link; ``config_digest`` is over all of it.

    ``theorem``: by its name; None for the default of the settings, see `proofs.theorems`.
    """

    link_id: LinkId
    settings: Agreed
    policy: SecurityPolicy
    accept_provenance: frozenset[Provenance]
    config_digest: str
    theorem: str | None = None

    def planning(self, segment_pads: int) -> Terms:
        """As the planner takes them."""
        return Terms(
            link_id=self.link_id,
            settings=self.settings,
            policy=self.policy,
            segment_pads=segment_pads,
            config_digest=self.config_digest,
            theorem=self.theorem,
        )

    def require(self, provenance: Provenance) -> None:
        """Raises ProvenanceRefused unless this site takes such bits."""
        if provenance not in self.accept_provenance:
            accepted = ", ".join(sorted(self.accept_provenance)) or "nothing"
            raise ProvenanceRefused(
                f"the link's bits are {provenance.value}, accept_provenance lists {accepted}"
            )
