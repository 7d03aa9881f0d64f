"""Deliver keys through the store's port for a while, from many threads, and say how fast.

python store_deliveries.py SITE.toml SECONDS THREADS
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prepared_site import deliver, opened, request_of

from keyferry.config.site import load


def main(site_file: str, seconds: float, threads: int) -> None:
    with opened(load(Path(site_file))) as store:
        began = time.monotonic()

        def keep_delivering(_: int) -> int:
            request, delivered = request_of(1), 0
            while time.monotonic() < began + seconds:
                delivered += len(deliver(store, request))
            return delivered

        with ThreadPoolExecutor(threads) as pool:
            delivered = sum(pool.map(keep_delivering, range(threads)))
        print(delivered / (time.monotonic() - began))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
