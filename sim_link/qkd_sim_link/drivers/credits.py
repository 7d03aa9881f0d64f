"""How many batches the consumer of a driver has room for."""

from threading import Condition

from qkd_core.errors import LinkDown


class Credits:
    """Those of one epoch; safe for threads."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._left = 0
        self._epoch = 0
        self._stopped = False

    def renew(self) -> None:
        """Another epoch: what was granted before is void, and nobody waits for it any more."""
        with self._changed:
            self._left = 0
            self._epoch += 1
            self._stopped = False
            self._changed.notify_all()

    def stop(self) -> None:
        """Nothing is given out until the next epoch."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def grant(self, batches: int) -> None:
        with self._changed:
            self._left += batches
            self._changed.notify_all()

    @property
    def epoch(self) -> int:
        """The present one's number, for `take`."""
        return self._epoch

    def take(self, epoch: int, timeout_s: float) -> None:
        """Use one up; wait for it. Raises LinkDown when there is none in time, or none any more."""
        with self._changed:
            there = self._changed.wait_for(lambda: self._left or self._ended(epoch), timeout_s)
            self._require(epoch)
            if not there:
                raise LinkDown(f"no credit for a batch within {timeout_s:g} s")
            self._left -= 1

    def wait(self, epoch: int, seconds: float) -> None:
        """Let so much time pass. Raises LinkDown when the epoch is given up meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended(epoch), max(0.0, seconds))
            self._require(epoch)

    def _ended(self, epoch: int) -> bool:
        return self._stopped or self._epoch != epoch

    def _require(self, epoch: int) -> None:
        if self._ended(epoch):
            raise LinkDown("stopped" if self._stopped else "given up for another epoch")
