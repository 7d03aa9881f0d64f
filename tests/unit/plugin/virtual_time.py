"""An event loop that waits for nothing: its time leaps to when something is due."""

import asyncio
import selectors


class Leaping(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("somebody waits for what never comes")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.leaping = Leaping()
        super().__init__(self.leaping)

    def time(self):
        return self.leaping.now


def in_virtual_time(work):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
