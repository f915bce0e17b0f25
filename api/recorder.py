"""Takes stored uploads to the ledger, several in one transaction where several wait.

The relayer only pays the gas: what a record says stands under the hospital's signature.
docs/protocol.md, sections 7.1 and 12.
"""

import logging

from api.metrics import Metrics
from api.problems import Problem, problem_of
from api.spool import Spool, Upload, UploadState
from chain.errors import ContractRevertedError, LedgerError, RefusedRequestError
from chain.ledger import Ledger
from chain.sending import Receipt

log = logging.getLogger("fedwitness.api")

BATCH = 16
DUPLICATE = "RoundLedgerDuplicateRecord"


class Recorder:
    """Takes uploads from `recording` to `recorded` or `refused`.

    Args:
        spool: Where the uploads are.
        ledger: The ledger, with the relayer's account. It keeps each signed transaction on
            durable storage before it sends it.
        metrics: Where records and gas are counted.
    """

    def __init__(self, spool: Spool, ledger: Ledger, metrics: Metrics) -> None:
        self._spool = spool
        self._ledger = ledger
        self._metrics = metrics

    def step(self) -> bool:
        """Send lost transactions again, then record whatever waits; tell whether anything did.

        Raises:
            LedgerError: If the chain cannot be reached; the uploads wait, and say so.
        """
        waiting = self._spool.in_state(UploadState.RECORDING, BATCH)
        try:
            if lost := self._ledger.resend_lost():
                log.warning("sent %d transactions again that the chain had lost", lost)
            return self._record(waiting)
        except LedgerError as error:
            for upload in waiting:
                self._spool.hinder(upload, problem_of(error))
            raise

    def _record(self, uploads: list[Upload]) -> bool:
        """Record uploads, in one transaction if that can be; tell whether any came to an end."""
        # Together it is all or none: one refusal says nothing about the others.
        if len(uploads) > 1 and self._record_together(uploads):
            return True
        ended = [self._record_alone(upload) for upload in uploads]
        return any(ended)

    def _record_together(self, uploads: list[Upload]) -> bool:
        try:
            receipt = self._ledger.relay_updates(
                [(upload.record, upload.signature) for upload in uploads]
            )
        except (ContractRevertedError, RefusedRequestError):
            # Or they need more gas than a block has, which one party's long list can bring about.
            return False
        self._metrics.gas.inc(receipt.gas_used)
        for upload in uploads:
            self._recorded(upload, receipt)
        return True

    def _record_alone(self, upload: Upload) -> bool:
        """Record one upload; tell whether it came to an end."""
        try:
            receipt = self._ledger.relay_update(upload.record, upload.signature)
        except ContractRevertedError as error:
            return self._settle(upload, error)
        except RefusedRequestError as error:
            # The chain answers and does not take this one: those behind it need not wait for it.
            self._spool.hinder(upload, problem_of(error))
            return False
        self._metrics.gas.inc(receipt.gas_used)
        self._recorded(upload, receipt)
        return True

    def _recorded(self, upload: Upload, receipt: Receipt) -> None:
        self._spool.recorded(upload, receipt.transaction, receipt.gas_used)
        self._metrics.finished.labels(UploadState.RECORDED).inc()

    def _settle(self, upload: Upload, error: ContractRevertedError) -> bool:
        """End an upload that the contract refuses, unless its own record is what stands there.

        That is so where an earlier transaction with the record went through and the server was
        killed before it heard of it, or where somebody else relayed it.
        """
        if error.name == DUPLICATE:
            standing = {
                recorded.record.hospital: recorded
                for recorded in self._ledger.records(upload.record.round)
            }.get(upload.record.hospital)
            if standing is None:
                # The contract judged a state that has no block yet; the next look will tell.
                return False
            if standing.record == upload.record:
                self._spool.recorded(upload, standing.position.transaction, None)
                self._metrics.finished.labels(UploadState.RECORDED).inc()
                return True
        self._refuse(upload, problem_of(error))
        return True

    def _refuse(self, upload: Upload, problem: Problem) -> None:
        self._spool.refuse(upload, problem)
        self._metrics.finished.labels(UploadState.REFUSED).inc()

    def expire(self) -> bool:
        """Refuse uploads that were not complete at their round's deadline; drop old refusals.

        Returns:
            False: there is no more of this work before the next pause.
        """
        now = self._ledger.head().timestamp
        for upload in self._spool.expired(now):
            self._refuse(upload, _expired(upload))
        self._spool.forget_refused(now)
        return False


def _expired(upload: Upload) -> Problem:
    return Problem(
        409,
        "upload-expired",
        "The round's deadline came before the upload's end",
        f"{upload.offset} of {upload.length} bytes had arrived and were dropped. Take part in the "
        "task's next round.",
    )
