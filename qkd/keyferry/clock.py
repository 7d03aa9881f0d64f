"""The clock of the running service."""

import time


class SystemClock:
    """`qkd_core.ports.Clock` by the operating system's time."""

    def now(self) -> float:
        return time.time()
