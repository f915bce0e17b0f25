"""A server in a process of its own, whose blobs are read to their end and thrown away.

Called as ``python -m tests.api.gigabyte_server FOLDER PORT``.
"""

import sys
from pathlib import Path
from typing import cast

import uvicorn

from api.app import build_app
from api.server import configuration
from chain.blob_store import Source, read_chunks
from chain.cid import Cid, blob_cid
from chain.ledger import Ledger
from chain.types import Role
from tests.api.conftest import HOSPITAL, settings_for
from tests.api.fake_ledger import FakeLedger
from tests.memory_blobs import MemoryBlobStore


class DiscardingBlobStore(MemoryBlobStore):
    """Computes CIDs and keeps nothing."""

    def put(self, source: Source) -> Cid:
        return blob_cid(read_chunks(source))


def main() -> None:
    ledger = FakeLedger()
    ledger.enroll(HOSPITAL.address, Role.HOSPITAL)
    ledger.open()
    settings = settings_for(Path(sys.argv[1]), int(sys.argv[2]))
    app = build_app(settings, cast("Ledger", ledger), DiscardingBlobStore())
    uvicorn.Server(configuration(app, settings)).run()


if __name__ == "__main__":
    main()
