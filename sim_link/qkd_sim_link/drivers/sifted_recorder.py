"""Record what both ends of a link of pairs have after sifting, one file of secret bits an end."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qkd_core.errors import ConfigError, LinkError
from qkd_core.ports import PairDevice
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.both_ends import BothEnds, block_of
from qkd_sim_link.formats.sifted import SiftedStream, SiftedWriter

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is recorded: blocks 1 to ``n_epochs`` of two ends that wait ``timeout_s`` at most."""

    link: str
    ends: Mapping[Side, PairDevice]
    settings: PairSettings
    n_epochs: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class RecordedBits:
    """How much was recorded, at either end."""

    n_key: int
    n_test: int


def record_sifted(
    session: Session, outs: Mapping[Side, Path], progress: Progress = lambda _: None
) -> RecordedBits:
    """Run the blocks and write the sifted bits of each end to its file in ``outs``.

    Raises ConfigError for a file that exists or cannot be written; LinkError, BlockDiscarded or
    ChannelError when a block comes to nothing. Then no file is left.
    """
    n_key = n_test = 0
    with ExitStack() as unless_whole:
        try:
            with ExitStack() as files:
                writers: dict[Side, SiftedWriter] = {}
                for side, out in outs.items():
                    writer = SiftedWriter(out, _stream(session, side))
                    unless_whole.callback(out.unlink)
                    writers[side] = files.enter_context(writer)
                for number in range(1, session.n_epochs + 1):
                    both = _block(session, BlockId(number))
                    try:
                        for side, writer in writers.items():
                            writer.write(both.outcomes[side])
                    finally:
                        both.wipe()
                    n_key += both.outcomes[Side.A].n_key
                    n_test += both.outcomes[Side.A].n_test
                    progress(number)
        except FileExistsError as error:
            raise ConfigError(f"{error.filename} exists: it is not overwritten") from error
        except OSError as error:
            file = error.filename or "the recording"
            raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
        unless_whole.pop_all()
    return RecordedBits(n_key, n_test)


def _block(session: Session, block_id: BlockId) -> BothEnds:
    for end in session.ends.values():
        end.arm(block_id, session.settings)
    both = block_of(session.ends, block_id, session.timeout_s)
    a, b = (both.outcomes[side] for side in Side)
    if (a.n_key, a.n_test) != (b.n_key, b.n_test):
        both.wipe()
        raise LinkError(
            f"block {block_id}: {a.n_key} key and {a.n_test} test bits of side a, {b.n_key} and"
            f" {b.n_test} of side b"
        )
    return both


def _stream(session: Session, side: Side) -> SiftedStream:
    """Raises LinkDown."""
    return SiftedStream(
        link=session.link,
        side=side,
        provenance=session.ends[side].provenance,
        settings=session.settings,
    )
