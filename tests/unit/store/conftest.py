from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyferry.store.checks.examples import LINK, SetClock
from keyferry.store.sealing import new_root_key
from keyferry.store.sqlite import Store, open_store
from qkd_core.types.ids import KmeId, Side

OpenStore = Callable[..., Store]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def open_site(tmp_path: Path, clock: SetClock) -> Iterator[OpenStore]:
    """Opens one site's store, as often as wanted; closes them all in the end."""
    opened = []

    def open_one(side: Side = Side.A, writer: str = "engine", **changes) -> Store:
        root_key = tmp_path / f"{side}.key"
        if not root_key.exists():
            new_root_key(root_key)
        settings = {
            "root_key": root_key,
            "link_id": LINK,
            "side": side,
            "kme_id": KmeId(f"kme-{side}"),
            "writer": writer,
            "clock": clock,
        }
        store = open_store(tmp_path / side / "keys.db", **(settings | changes))
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()
