"""Real API processes at 127.0.0.1 with certificates of a test authority, and a plain client."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from sites_of_api import Certificates, Sites

sys.path.pop(0)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def sites(tmp_path: Path, certificates: Certificates) -> Iterator[Sites]:
    made = Sites(tmp_path, certificates)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def lasting_sites(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Sites]:
    """For tests that share running sites and leave them as they are."""
    made = Sites(tmp_path_factory.mktemp("sites"), certificates)
    yield made
    made.stop()
