"""Puts complete uploads on IPFS, once their bytes are the ones that were signed for.

docs/protocol.md, sections 5 and 12.
"""

from collections.abc import Callable

from api.metrics import Metrics
from api.problems import Problem, problem_of
from api.spool import Spool, Upload, UploadState
from chain.blob_store import BlobStore
from chain.cid import Cid, blob_cid
from chain.errors import FedWitnessError
from chain.files import pieces


class Storer:
    """Takes uploads from `storing` to `recording`, one after the other.

    Args:
        spool: Where the uploads are.
        blobs: Where they go.
        metrics: Where refusals are counted.
        stored: Called when an upload has become ready to be recorded.
    """

    def __init__(
        self, spool: Spool, blobs: BlobStore, metrics: Metrics, stored: Callable[[], None]
    ) -> None:
        self._spool = spool
        self._blobs = blobs
        self._metrics = metrics
        self._stored = stored

    def step(self) -> bool:
        """Store the upload that has waited longest; tell whether there was one.

        Raises:
            BlobUnavailableError: If IPFS cannot be reached; the upload waits, and says so.
        """
        waiting = self._spool.in_state(UploadState.STORING, 1)
        for upload in waiting:
            self._store(upload)
        return bool(waiting)

    def _store(self, upload: Upload) -> None:
        found = blob_cid(pieces(self._spool.path(upload)))
        if found != upload.cid:
            self._spool.refuse(upload, _wrong_bytes(upload, found))
            self._metrics.finished.labels(UploadState.REFUSED).inc()
            return
        try:
            self._blobs.put(self._spool.path(upload))
        except FedWitnessError as error:
            self._spool.hinder(upload, problem_of(error))
            raise
        self._spool.advance(upload, UploadState.RECORDING)
        self._stored()


def _wrong_bytes(upload: Upload, found: Cid) -> Problem:
    return Problem(
        409,
        "blob-digest-mismatch",
        "The bytes are not those of the record",
        f"Expected the blob {upload.cid}, found {found}; the bytes were dropped. Announce the "
        "upload anew with POST and send the envelope that was sealed for this record.",
    )
