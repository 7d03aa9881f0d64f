"""The witness of one process: its gate, its keeper, and marks on its messages to the peer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from keyferry.peer.session import PeerSession
from keyferry.peer.witness import HttpWitnessPeer
from keyferry.store.gate import Gate, PeerGate
from keyferry.witness.keeper import Duties, Keeper
from keyferry.witness.riding import Riding
from qkd_core.ports import Clock, WitnessStore

LOCK_FILE = "witness.lock"  # in the state directory


class Watched(Protocol):
    """A store under its witness, as one process has it open."""

    @property
    def witness(self) -> WitnessStore: ...

    @property
    def gate(self) -> Gate: ...


def gate_of(store: Watched) -> PeerGate:
    """Raises TypeError for a store that was opened without a witness."""
    gate = store.gate
    if not isinstance(gate, PeerGate):
        raise TypeError("the store was opened without a witness")
    return gate


@contextmanager
def watched(
    store: Watched, session: PeerSession, state_dir: Path, duties: Duties, clock: Clock
) -> Iterator[Keeper]:
    """Open the store's gate when the peer has answered, and keep it so; until the context ends."""
    gate = gate_of(store)
    session.ride(Riding(store.witness, gate))
    keeper = Keeper(
        store.witness,
        gate,
        HttpWitnessPeer(session),
        duties=duties,
        clock=clock,
        lock_file=state_dir / LOCK_FILE,
    )
    with keeper:
        yield keeper
