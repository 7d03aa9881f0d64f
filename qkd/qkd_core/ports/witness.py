"""How far each site came, as the other one remembers it."""

from collections.abc import Sequence
from typing import Protocol

from qkd_core.types.authentication import Lane
from qkd_core.types.ids import KeyId
from qkd_core.types.witness import Marks, Proof, Remembered, Runs


class SiteWitness(Protocol):
    """How far this site came, and how far it may go.

    A site that is older than its peer remembers delivers, consumes and tags nothing; any other one
    only as far as its peer has acknowledged beforehand (`architecture.md`, section 4).
    """

    def marks(self) -> Marks:
        """How far this site is, all of it durable. Each deed moves a head."""

    def judge(self, told: Remembered) -> None:
        """Compare what the peer remembers of this site. Raises RolledBack, then and ever after.

        Raises PeerUnavailable when this site is new and the peer has to be rekeyed too.
        """

    def has_evidence(self) -> bool:
        """Whether it is certain without the peer that nothing is missing here.

        That is: since the site was last let open, all that it did was noted in another place,
        which does not go back with the store, and is here.
        """

    def enter(self, era: int, proof: Proof) -> None:
        """The peer let this site open. Without proof, held keys that were perhaps consumed are
        burnt at both sites and nothing is open any more; keys of refresh runs under way stay.

        Raises RolledBack.
        """

    def begin_closing(self) -> None:
        """The site is being stopped: its marks say so. It still acts."""

    def close(self) -> Marks:
        """Act no more until the next start; returns the final marks."""

    def runs_wanted(self, n_bytes: int, lanes: Sequence[Lane]) -> Runs:
        """What the peer is to open, for ``n_bytes`` and a run of each lane's pads to be open."""

    def is_low(self, of_bytes: bool, lanes: Sequence[Lane]) -> bool:
        """Whether less than half of a run is open, of bytes or of a lane's pads."""

    def take_runs(self, asked: Runs, opened: Runs) -> None:
        """The peer opened them: act within. What lies before, and is not known to be used, is
        burnt at both sites. Bytes that were not asked for, or are no longer free, stay as they
        are."""

    def park(self, now: float) -> int:
        """Give up consuming keys, without asking, that were held for a while; how many."""

    def ask_release(self, key_ids: Sequence[KeyId]) -> None:
        """Durably note that the peer is going to be asked for parked keys."""

    def take_release(self, key_ids: Sequence[KeyId]) -> None:
        """The peer knows that these parked keys may be consumed."""


class PeerWitness(Protocol):
    """What this site durably knows of its peer's progress, and has let it do."""

    def remembered(self) -> Remembered:
        """What this site remembers of its peer."""

    def remember(self, marks: Marks) -> None:
        """Keep the newest of what the peer told; a stranger's marks are left out.

        A closed peer stays closed: only `let_open` opens it.
        """

    def let_open(self, marks: Marks, proof: Proof) -> int:
        """The peer starts; returns its era. Without proof, what was open to it is not opened
        again, and keys that it has not acknowledged are burnt at both sites.

        Raises RolledBack for an incarnation of the peer that is not the one known here.
        """

    def let_run(self, marks: Marks, wanted: Runs) -> Runs:
        """Keep the peer's marks, and open runs for it: what lies in its own part.

        Raises PeerUnavailable when it speaks as another incarnation or of an older era.
        """

    def let_release(self, marks: Marks) -> None:
        """Keep the peer's marks, in which it says that it consumes parked keys. Raises as above."""

    def is_untold(self, key_id: KeyId) -> bool:
        """Whether the peer has not acknowledged this key of ours: only then may it pull it."""


class WitnessStore(SiteWitness, PeerWitness, Protocol):
    """Both, and the way out: a site that starts empty gives nothing away a second time."""

    def start_empty(self, reason: str) -> None:
        """Erase all key and all pads; a new incarnation, for which the peer has to be rekeyed."""

    def rekey(self, secret: bytes, reason: str) -> None:
        """Start empty with a new pre-shared secret. ConfigError on its size, or if it is old."""


class WitnessPeer(Protocol):
    """The other site's witness, over the inter-KME API. Each call raises PeerUnavailable."""

    def remembered(self) -> Remembered:
        """What the peer remembers of this site."""

    def open(self, marks: Marks, proof: Proof) -> int:
        """This site's era. Raises RolledBack when the peer refuses this incarnation."""

    def run(self, marks: Marks, wanted: Runs) -> tuple[Runs, Remembered]:
        """What the peer opened of ``wanted``, and what it remembers now."""

    def release(self, marks: Marks) -> None:
        """The peer knows that keys parked here may be consumed."""

    def close(self, marks: Marks) -> bool:
        """The peer knows that this site is at rest; whether it is being stopped as well."""
