"""Record what the drivers of both ends give of some blocks, one file of ours an end."""

import os
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
from qkd_sim_link.formats.sifted import MODE

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

    The files are for their owner alone: of pairs the tags tell the bits. Raises ConfigError for a
    file that exists or cannot be written; LinkDown when an end loses a block. Then no file is left.
    """
    with ExitStack() as unless_whole:
        try:
            for out in outs.values():
                os.close(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE))
                unless_whole.callback(out.unlink, missing_ok=True)
            n_tags = _written(ends, settings, n_epochs, outs, progress)
        except FileExistsError as error:
            raise ConfigError(f"{error.filename} exists: it is not overwritten") from error
        except OSError as error:
            file = error.filename or "the recording"
            raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
        unless_whole.pop_all()
    return Recorded(n_epochs, n_tags)


def _written(
    ends: Mapping[Side, TagSource],
    settings: PairSettings,
    n_epochs: int,
    outs: Mapping[Side, Path],
    progress: Progress,
) -> dict[Side, int]:
    """How many tags of each end. Raises OSError, LinkDown."""
    with ExitStack() as stack:
        files = {side: stack.enter_context(_EndFile(ends[side], outs[side])) for side in ends}
        for number in range(1, n_epochs + 1):
            for file in files.values():
                file.source.arm(BlockId(number), settings)
            for file in files.values():
                file.take(BlockId(number), settings)
            progress(number)
    return {side: file.n_tags for side, file in files.items()}


class _EndFile:
    """One end's file, which there is; its stream is that of the first batch."""

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
