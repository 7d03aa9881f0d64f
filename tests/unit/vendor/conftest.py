"""A vendor's boxes for each test, and their certificates for all."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.engine import loop

sys.path.insert(0, str(Path(__file__).parent))
from vendor_boxes import Credentials, VendorBoxes

sys.path.pop(0)


@pytest.fixture(scope="session")
def vendor_credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.made(tmp_path_factory.mktemp("vendor"))


@pytest.fixture
def boxes(vendor_credentials: Credentials) -> Iterator[VendorBoxes]:
    with VendorBoxes(vendor_credentials) as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is what comes after a pause, not how long it is."""
    monkeypatch.setattr(loop.Pause, "take", lambda _: time.sleep(0.01))
