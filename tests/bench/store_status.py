"""How long a status takes, in milliseconds: the median of many, through the store's ports.

python store_status.py SITE.toml TIMES
"""

import sys
import time
from pathlib import Path
from statistics import median

from prepared_site import opened

from keyferry.bootstrap.api import issuing_of
from keyferry.config.site import SiteSettings, load
from qkd_core.errors import PeerUnavailable
from qkd_core.ports import PeerKme
from qkd_core.types.ids import KeyId, SaeId
from qkd_core.types.keys import Allocation


class NoPeer(PeerKme):
    """A status asks nobody."""

    def pull(self, key_id: KeyId) -> Allocation:
        raise PeerUnavailable("there is no peer here")


def main(settings: SiteSettings, times: int) -> None:
    taken = []
    with opened(settings) as store:
        issuing = issuing_of(settings, store, NoPeer())
        for _ in range(times):
            began = time.perf_counter()
            issuing.status(SaeId("sae-a"), SaeId("sae-b"))
            taken.append(1000 * (time.perf_counter() - began))
    print(median(taken))


if __name__ == "__main__":
    main(load(Path(sys.argv[1])), int(sys.argv[2]))
