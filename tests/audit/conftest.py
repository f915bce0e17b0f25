"""What several of the audit's tests need."""

from pathlib import Path

import pytest

from tests.aggregator.training import Training
from tests.federation import Federation
from tests.memory_blobs import MemoryBlobStore


@pytest.fixture
def training(federation: Federation, tmp_path: Path) -> Training:
    """A task on the federation of `tests/federation.py`."""
    return Training(federation, MemoryBlobStore(), tmp_path)
