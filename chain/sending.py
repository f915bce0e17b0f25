"""Signed transactions on their way to the chain, so that none is lost and none counts twice.

The order is always: try the call, sign, write to the outbox (fsync), send, wait for the receipt.
Whatever dies in between, `Sender.resend_lost` finds what the chain does not have and sends it
again. The chain's nonces see to it that nothing is executed twice.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from eth_account.signers.local import LocalAccount

from chain.errors import (
    ContractRevertedError,
    LedgerError,
    MissingContractError,
    RefusedRequestError,
)
from chain.outbox import Outbox, OutboxEntry, SignedTransaction
from chain.rpc import RawReceipt, Rpc

SETTLE_SECONDS = 30.0
GIVE_UP_SECONDS = 600.0
RECEIPT_SECONDS = 120.0
GAS_HEADROOM_PERCENT = 25

_NONCE_RACES = 5
_SLOWEST_POLL_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a write is on the chain."""

    transaction: bytes
    block: int
    gas_used: int

    @classmethod
    def of(cls, receipt: RawReceipt) -> Self:
        """Keep of the chain's receipt what a caller needs."""
        return cls(receipt.transaction, receipt.block, receipt.gas_used)


class Sender:
    """Sends for one account on one chain.

    Args:
        rpc: The chain.
        account: Signs, on this machine.
        folder: Holds the outbox. All processes that send for the account share it.
        settle_seconds: How long a receipt must have stood before its transaction leaves the outbox.
        receipt_seconds: How long to wait for a receipt.
    """

    def __init__(
        self,
        rpc: Rpc,
        account: LocalAccount,
        folder: Path,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        receipt_seconds: float = RECEIPT_SECONDS,
    ) -> None:
        self._rpc = rpc
        self._account = account
        self._folder = folder
        self._settle_seconds = settle_seconds
        self._receipt_seconds = receipt_seconds
        self._opened: Outbox | None = None

    @property
    def address(self) -> str:
        """The account that signs and pays."""
        return str(self._account.address)

    @property
    def outbox(self) -> Outbox:
        """What was signed and has not surely been kept by the chain."""
        if self._opened is None:
            self._opened = Outbox(self._folder, self._rpc.chain_id, self.address)
        return self._opened

    def send(self, to: str | None, data: bytes, purpose: str) -> RawReceipt:
        """Have a call recorded on the chain.

        Args:
            to: The contract, None to deploy one.
            data: The encoded call, or the code to deploy.
            purpose: What it is for, in a few words for people.

        Raises:
            ContractRevertedError: If the contract refuses. Nothing is left in the outbox.
            RefusedRequestError: If the chain's node does not take it, such as for its gas.
            LedgerError: If the chain cannot be reached, or has not mined the transaction in
                time; then it stays in the outbox and is sent again.
        """
        try:
            with self.outbox.locked():
                self._resend_lost()
                self._try(to, data)
                entry = self._sign_and_send(to, data, purpose)
        except RefusedRequestError as error:
            told = f"{error}: {purpose}. Has the account {self.address} funds for the fee?"
            raise RefusedRequestError(told) from error
        return self._wait_for_receipt(entry)

    def resend_lost(self) -> int:
        """Send again what the chain has forgotten, in the order of the nonces.

        A transaction that the contract now refuses is reported in the log and kept: what it
        builds on may be lost as well and come back, from another account. It is tried again
        each time, for ten minutes, and stays listed in `outbox.given_up()` after that.

        Returns:
            How many were sent again.
        """
        with self.outbox.locked():
            return self._resend_lost()

    def _resend_lost(self) -> int:
        entries = self.outbox.entries()
        if not self._has_last(entries):
            lost = [entry for entry in entries if not self._is_on_chain(entry)]
            next_nonce = self._rpc.transaction_count(self.address, "latest")
            # Those whose nonce is free go first and keep it, so that each that is signed anew
            # comes behind all others.
            in_time = [entry for entry in lost if entry.transaction.nonce >= next_nonce]
            overtaken = [entry for entry in lost if entry.transaction.nonce < next_nonce]
            resent = sum(self._resend(entry) for entry in in_time)
            resent += sum(self._resend_overtaken(entry) for entry in overtaken)
        else:
            resent = 0
        self.outbox.settle(self._settle_seconds)
        return resent

    def _has_last(self, entries: tuple[OutboxEntry, ...]) -> bool:
        """Tell whether the chain has the newest transaction, and so all before it."""
        if any(entry.seen_at is None for entry in entries):
            return False
        return not entries or self._rpc.receipt(entries[-1].transaction.hash) is not None

    def _is_on_chain(self, entry: OutboxEntry) -> bool:
        receipt = self._rpc.receipt(entry.transaction.hash)
        if receipt is not None and not receipt.succeeded and entry.seen_at is None:
            _log.error("failed in block %d: %s", receipt.block, entry.purpose)
        if receipt is not None or entry.seen_at is not None:
            self.outbox.mark_seen(entry.number, receipt is not None)
        return receipt is not None or self._rpc.knows(entry.transaction.hash)

    def _resend(self, entry: OutboxEntry) -> bool:
        if not self._is_still_accepted(entry):
            return False
        self._fill_gap(entry.transaction.nonce)
        try:
            self._rpc.send(entry.transaction.raw)
        except RefusedRequestError:
            # Fees may have risen beyond what it offers.
            self._sign_and_send_anew(entry, entry.transaction.nonce)
        _log.warning("sent again, for the chain had lost it: %s", entry.purpose)
        return True

    def _resend_overtaken(self, entry: OutboxEntry) -> bool:
        if not self._is_still_accepted(entry):
            return False
        self._sign_and_send_anew(entry, self._next_nonce())
        _log.warning("signed anew, for the chain had lost it: %s", entry.purpose)
        return True

    def _sign_and_send_anew(self, entry: OutboxEntry, nonce: int) -> None:
        transaction = self._sign(entry.to, entry.data, nonce)
        self.outbox.sign_anew(entry.number, transaction)
        self._rpc.send(transaction.raw)

    def _is_still_accepted(self, entry: OutboxEntry) -> bool:
        try:
            self._try(entry.to, entry.data)
        except (ContractRevertedError, MissingContractError) as refusal:
            _log.warning(
                "the chain has lost this and now refuses it: %s: %s", entry.purpose, refusal
            )
            self.outbox.mark_refused(entry.number, str(refusal))
            if entry.refused_at is not None and time.time() > entry.refused_at + GIVE_UP_SECONDS:
                _log.error("given up: %s", entry.purpose)
                self.outbox.give_up(entry.number)
            return False
        return True

    def _fill_gap(self, nonce: int) -> None:
        """Use up the nonces below this one with transfers of nothing to oneself.

        A chain takes an account's transactions without gaps. Whoever owned these nonces is
        refused now, and signed anew once it is not; nobody can come back and count twice.
        """
        for free in range(self._rpc.transaction_count(self.address, "pending"), nonce):
            filler = self._sign(self.address, b"", free)
            self.outbox.add(filler, self.address, b"", f"fill the gap at nonce {free}")
            self._rpc.send(filler.raw)

    def _try(self, to: str | None, data: bytes) -> None:
        # A call to an address without code succeeds and does nothing.
        if to not in (None, self.address) and not self._rpc.has_code(str(to)):
            raise MissingContractError(
                f"there is no contract at {to} on chain {self._rpc.chain_id}: "
                "is the address right, and is it this chain?"
            )
        self._rpc.call(to, data, sender=self.address, block="pending")

    def _sign_and_send(self, to: str | None, data: bytes, purpose: str) -> OutboxEntry:
        for attempt in range(_NONCE_RACES):
            transaction = self._sign(to, data, self._next_nonce())
            entry = self.outbox.add(transaction, to, data, purpose)
            try:
                self._rpc.send(transaction.raw)
            except RefusedRequestError as error:
                self.outbox.remove(entry.number)
                if not _is_nonce_race(error) or attempt == _NONCE_RACES - 1:
                    raise
            except LedgerError:
                # Perhaps it arrived: whoever waits for the receipt finds out and sends it again.
                return entry
            else:
                return entry
        raise AssertionError("the loop above returns or raises")

    def _next_nonce(self) -> int:
        waiting = [e.transaction.nonce + 1 for e in self.outbox.entries() if e.refused_at is None]
        return max(self._rpc.transaction_count(self.address, "pending"), *waiting, 0)

    def _sign(self, to: str | None, data: bytes, nonce: int) -> SignedTransaction:
        fees, estimate = self._rpc.fees(), self._rpc.estimate_gas(self.address, to, data)
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._rpc.chain_id,
            "nonce": nonce,
            "gas": estimate * (100 + GAS_HEADROOM_PERCENT) // 100,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.priority_fee,
            "value": 0,
            "data": data,
        }
        if to is not None:
            fields["to"] = to
        signed = self._account.sign_transaction(fields)
        return SignedTransaction(nonce, bytes(signed.hash), bytes(signed.raw_transaction))

    def _wait_for_receipt(self, entry: OutboxEntry) -> RawReceipt:
        deadline = time.monotonic() + self._receipt_seconds
        pause = 0.01
        problem: LedgerError | None = None
        while time.monotonic() < deadline:
            try:
                receipt = self._receipt_or_resend(entry)
            except LedgerError as error:
                problem, receipt = error, None
            if receipt is not None:
                return self._checked(entry, receipt)
            time.sleep(pause)
            pause = min(2 * pause, _SLOWEST_POLL_SECONDS)
        raise LedgerError(
            f"no receipt within {self._receipt_seconds:.0f} s for: {entry.purpose}. It is kept "
            f"in the outbox and will be sent again. {problem or ''}".rstrip()
        )

    def _receipt_or_resend(self, entry: OutboxEntry) -> RawReceipt | None:
        entry = self.outbox.entry(entry.number) or entry
        receipt = self._rpc.receipt(entry.transaction.hash)
        if receipt is None and not self._rpc.knows(entry.transaction.hash):
            self.resend_lost()
            if entry.refusal is not None:
                raise LedgerError(f"The chain had lost it, and then: {entry.refusal}")
        return receipt

    def _checked(self, entry: OutboxEntry, receipt: RawReceipt) -> RawReceipt:
        self.outbox.mark_seen(entry.number, True)
        if receipt.succeeded:
            return receipt
        # What refused it stands in the state just before or just after its block.
        for block in (receipt.block - 1, receipt.block):
            self._rpc.call(entry.to, entry.data, sender=self.address, block=block)
        raise LedgerError(
            f"the chain took the fee and failed in block {receipt.block} for: {entry.purpose}. "
            "It gave no reason; try again"
        )


def _is_nonce_race(error: RefusedRequestError) -> bool:
    told = str(error).lower()
    return "nonce too low" in told or "replacement transaction" in told
