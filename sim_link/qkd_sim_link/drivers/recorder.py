"""Record what the drivers of both ends give of some blocks, one file of ours an end."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from qkd_core.errors import ConfigError
from qkd_core.types.ids import BlockId, Side
from qkd_core.types.plans import PairSettings
from qkd_sim_link.drivers.contract import TagSource, Verified, settings_digest
from qkd_sim_link.formats.native import NativeWriter

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """How much was recorded."""

    n_epochs: int
    n_tags: Mapping[Side, int]


def record(
    ends: Mapping[Side, TagSource],
    settings: PairSettings,
    n_epochs: int,
    outs: Mapping[Side, Path],
    progress: Progress = lambda _: None,
) -> Recorded:
    """Run blocks 1 to ``n_epochs`` and write the tags of each end to its file in ``outs``.

    Raises ConfigError for a file that exists or cannot be written; LinkDown when an end loses a
    block. Then no file is left.
    """
    for out in outs.values():
        if out.exists():
            raise ConfigError(f"{out} exists: it is not overwritten")
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(_EndFile(ends[side], outs[side])) for side in ends]
            for number in range(1, n_epochs + 1):
                for file in files:
                    file.source.arm(BlockId(number), settings)
                for file in files:
                    file.take(BlockId(number), settings)
                progress(number)
    except BaseException as error:
        for out in outs.values():
            out.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ConfigError(f"{error.filename}: cannot be written ({error.strerror})") from error
        raise
    return Recorded(n_epochs, {side: file.n_tags for side, file in zip(ends, files, strict=True)})


class _EndFile:
    """One end's file; its stream is that of the first batch."""

    def __init__(self, source: TagSource, out: Path) -> None:
        self.source = source
        self.n_tags = 0
        self._out = out
        self._stack = ExitStack()
        self._writer: NativeWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def take(self, block_id: BlockId, settings: PairSettings) -> None:
        """The armed epoch, batch by batch."""
        verified = Verified(block_id, settings_digest(settings))
        self.source.credit(1)
        for batch in self.source.batches():
            verified.take(batch)
            if self._writer is None:
                self._writer = self._stack.enter_context(NativeWriter(self._out, batch.stream))
            header = batch.header
            self._writer.write(
                batch.tags,
                watermark=header.watermark,
                epoch=block_id,
                clock_state=header.clock_state,
            )
            self.n_tags += header.n
            self.source.credit(1)
