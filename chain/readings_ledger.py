"""Readings and requests on the ledger, read from the `Readings` contract's logs and written to it.

See docs/protocol.md, section 16. Everything is read from the chain at each question, as of its
newest block; what is written is tried first, as all of `chain.ledger` is.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from chain import structs
from chain.addresses import checked_address
from chain.codec import encode_call
from chain.contract import Contract
from chain.errors import InvalidInputError, LedgerError
from chain.events import Log
from chain.readings import (
    NONE,
    Agreement,
    Comparison,
    Reading,
    ReadingRequest,
    ReadingTerms,
    RequestState,
    RequestTerms,
)
from chain.rpc import Head, RawReceipt, Rpc
from chain.sending import Receipt, Sender
from chain.types import LogPosition


class ReadingsReader:
    """Reads the `Readings` contract. Making one asks the chain nothing yet.

    Args:
        rpc: The chain.
        address: The contract's address.
    """

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self._contract = Contract(rpc, "Readings", address)

    @property
    def address(self) -> str:
        """The contract's address, which envelopes of readings name as their ledger."""
        return self._contract.address

    def readings(self, image: bytes | None = None) -> tuple[Reading, ...]:
        """List all readings, or those of an image, in the order of the ledger.

        Corrected ones are listed, too: the newest of a line is the one with no ``corrected_by``.
        """
        head = self._rpc.block()
        recorded = self._logs("ReadingRecorded", head, None, image)
        corrected = self._logs("ReadingCorrected", head, None, None, image)
        times = _Times(self._rpc)
        found: dict[bytes, Reading] = {}
        for log in sorted([*recorded, *corrected], key=_place):
            if log.event == "ReadingRecorded":
                found[log.args["reading"]] = _recorded(log, times)
            else:
                _correct(found, log, times)
        return tuple(found.values())

    def reading(self, reading: bytes) -> Reading:
        """Look a reading up.

        Raises:
            InvalidInputError: If there is none.
        """
        image = self._contract.ask("readingOf", reading)[0]["image"]
        for found in self.readings(image):
            if found.reading == reading:
                return found
        raise InvalidInputError(f"there is no reading 0x{reading.hex()}")

    def requests(
        self, hospital: str | None = None, state: RequestState | None = None
    ) -> tuple[ReadingRequest, ...]:
        """List requests in the order of the ledger.

        A request that is open may be too late to be taken: its terms say until when it can be.

        Args:
            hospital: Who asked, None for all.
            state: Where they stand, None for all.
        """
        asker = checked_address(hospital) if hospital is not None else None
        head = self._rpc.block()
        asked = self._logs("ReadingRequested", head, None, None, asker)
        found = self._requests(asked, head)
        return tuple(one for one in found if state is None or one.state == state)

    def request(self, request: bytes) -> ReadingRequest:
        """Look a request up.

        Raises:
            InvalidInputError: If there is none.
        """
        head = self._rpc.block()
        for found in self._requests(self._logs("ReadingRequested", head, request), head, request):
            return found
        raise InvalidInputError(f"there is no request for a reading 0x{request.hex()}")

    def comparisons(self, image: bytes | None = None) -> tuple[Comparison, ...]:
        """List the last word on each pair of readings, all or an image's, in the ledger's order."""
        times = _Times(self._rpc)
        last: dict[tuple[bytes, bytes], Comparison] = {}
        for log in self._logs("ReadingsCompared", self._rpc.block(), None, None, image):
            pair = log.args["own"], log.args["other"]
            last.pop(pair, None)
            last[pair] = Comparison(
                own=log.args["own"],
                other=log.args["other"],
                author=log.args["author"],
                agreement=Agreement(log.args["agreement"]),
                compared_at=times.of(log.position),
                position=log.position,
            )
        return tuple(last.values())

    def appointed_until(self, hospital: str, clinician: str) -> int:
        """Tell until when (Unix seconds) somebody may act in a hospital's name; 0 for never."""
        parties = checked_address(hospital), checked_address(clinician)
        return int(self._contract.ask("appointedUntil", *parties)[0])

    @functools.cached_property
    def _deployed_at(self) -> int:
        return int(self._contract.ask("deployedAt")[0])

    def _logs(self, event: str, head: Head, *topics: bytes | str | None) -> Iterator[Log]:
        return self._contract.logs(event, self._deployed_at, head.number, *topics)

    def _requests(
        self, asked: Iterator[Log], head: Head, request: bytes | None = None
    ) -> tuple[ReadingRequest, ...]:
        """Fold what was asked and what became of it, of one request or of all."""
        times = _Times(self._rpc)
        found = {log.args["request"]: _requested(log, times) for log in asked}
        changes = (log for event in _CHANGED for log in self._logs(event, head, request))
        for log in sorted(changes, key=_place) if found else ():
            if log.args["request"] in found:
                found[log.args["request"]] = _changed(found[log.args["request"]], log)
        return tuple(found.values())


class ReadingsWriter(ReadingsReader):
    """Reads the `Readings` contract and writes to it as one party.

    A party writes in its own name, or as a clinician in the name of the hospital that the terms
    name.

    Args:
        rpc: The chain.
        address: The contract's address.
        sender: Sends for the party.
    """

    def __init__(self, rpc: Rpc, address: str, sender: Sender) -> None:
        super().__init__(rpc, address)
        self._sender = sender

    def record(self, terms: ReadingTerms, proof: Sequence[bytes]) -> bytes:
        """Record a reading of the hospital's own image.

        Args:
            terms: What it says.
            proof: The Merkle proof that the image is in the version.

        Returns:
            The reading's identifier.
        """
        values = (structs.reading_values(terms), tuple(proof))
        receipt = self._send("record", values, f"record a reading of image 0x{terms.image.hex()}")
        return self._named(receipt, "ReadingRecorded", "reading")

    def fulfil(self, request: bytes, terms: ReadingTerms) -> bytes:
        """Record the reading that a request asked for, as who took it; returns its identifier.

        Raises:
            InvalidInputError: If there is no such request.
        """
        values = (self._terms_of(request), structs.reading_values(terms))
        receipt = self._send("fulfil", values, f"fulfil request 0x{request.hex()}")
        return self._named(receipt, "ReadingRecorded", "reading")

    def correct(self, reading: bytes, document: bytes, blob: bytes, reason: str) -> bytes:
        """Put another document in the place of a reading, which stays on record.

        Args:
            reading: The newest reading of its line.
            document: SHA-256 of the salted document.
            blob: SHA-256 of the envelope that holds it.
            reason: Why, for everybody to read: never about a patient.

        Returns:
            The correction's identifier.
        """
        values = (reading, document, blob, reason)
        receipt = self._send("correct", values, f"correct reading 0x{reading.hex()}")
        return self._named(receipt, "ReadingCorrected", "correction")

    def compare(self, own: bytes, other: bytes, agreement: Agreement) -> Receipt:
        """Say how far the party's own reading agrees with another's of the same image."""
        what = f"compare reading 0x{own.hex()} with 0x{other.hex()}"
        return self._write("compare", (own, other, agreement), what)

    def ask(self, terms: RequestTerms, proof: Sequence[bytes]) -> bytes:
        """Ask other hospitals to read an image.

        Args:
            terms: What is asked.
            proof: The Merkle proof that the image is in the version.

        Returns:
            The request's identifier.
        """
        values = (structs.request_values(terms), tuple(proof))
        receipt = self._send("ask", values, f"ask for a reading of image 0x{terms.image.hex()}")
        return self._named(receipt, "ReadingRequested", "request")

    def take(self, request: bytes, hospital: str | None = None) -> Receipt:
        """Take a request for a hospital, which is the party itself unless it is its clinician."""
        taker = checked_address(hospital or self._sender.address)
        values = (self._terms_of(request), taker)
        return self._write("take", values, f"take request 0x{request.hex()}")

    def release(self, request: bytes) -> Receipt:
        """Give a request back that the hospital took."""
        values = (self._terms_of(request),)
        return self._write("release", values, f"release request 0x{request.hex()}")

    def cancel(self, request: bytes) -> Receipt:
        """End a request of the hospital's that is open, or that its taker let pass."""
        values = (self._terms_of(request),)
        return self._write("cancel", values, f"cancel request 0x{request.hex()}")

    def appoint(self, clinician: str, until: int) -> Receipt:
        """Let a clinician act in the hospital's name until a time (Unix seconds), 0 for never."""
        party = checked_address(clinician)
        return self._write("appoint", (party, until), f"appoint {party} to read")

    def _terms_of(self, request: bytes) -> tuple[object, ...]:
        return structs.request_values(self.request(request).terms)

    def _write(self, function: str, values: tuple[object, ...], what: str) -> Receipt:
        return Receipt.of(self._send(function, values, what))

    def _send(self, function: str, values: tuple[object, ...], what: str) -> RawReceipt:
        data = encode_call(self._contract.name, function, *values)
        return self._sender.send(self.address, data, what)

    def _named(self, receipt: RawReceipt, event: str, member: str) -> bytes:
        identifier: bytes = self._contract.emitted(event, receipt.logs)[member]
        return identifier


class _Times:
    """Looks up the times of blocks, each once."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._known: dict[int, int] = {}

    def of(self, position: LogPosition) -> int:
        if position.block not in self._known:
            self._known[position.block] = self._rpc.block(position.block).timestamp
        return self._known[position.block]


def _place(log: Log) -> tuple[int, int]:
    return log.position.block, log.position.log_index


def _recorded(log: Log, times: _Times) -> Reading:
    return Reading(
        reading=log.args["reading"],
        terms=structs.reading_terms(log.args),
        author=log.args["author"],
        request=_given(log.args["request"]),
        corrects=None,
        corrected_by=None,
        reason=None,
        recorded_at=times.of(log.position),
        position=log.position,
    )


def _correct(found: dict[bytes, Reading], log: Log, times: _Times) -> None:
    args = log.args
    corrected = found.get(args["reading"])
    if corrected is None:
        raise LedgerError(
            f"reading 0x{args['reading'].hex()} was corrected, but the chain has no log of it: "
            "does its node keep all logs?"
        )
    found[corrected.reading] = replace(corrected, corrected_by=args["correction"])
    found[args["correction"]] = Reading(
        reading=args["correction"],
        terms=replace(corrected.terms, document=args["document"], blob=args["blob"]),
        author=args["author"],
        request=None,
        corrects=corrected.reading,
        corrected_by=None,
        reason=args["reason"],
        recorded_at=times.of(log.position),
        position=log.position,
    )


def _requested(log: Log, times: _Times) -> ReadingRequest:
    return ReadingRequest(
        request=log.args["request"],
        terms=structs.request_terms(log.args),
        state=RequestState.OPEN,
        taker=None,
        reading=None,
        asked_at=times.of(log.position),
        position=log.position,
    )


_CHANGED = {
    "RequestTaken": RequestState.TAKEN,
    "RequestReleased": RequestState.OPEN,
    "RequestFulfilled": RequestState.FULFILLED,
    "RequestCancelled": RequestState.CANCELLED,
}


def _changed(request: ReadingRequest, log: Log) -> ReadingRequest:
    state = _CHANGED[log.event]
    match state:
        case RequestState.TAKEN:
            return replace(request, state=state, taker=log.args["hospital"])
        case RequestState.FULFILLED:
            return replace(request, state=state, reading=log.args["reading"])
        case _:
            return replace(request, state=state, taker=None)


def _given(digest: bytes) -> bytes | None:
    return digest if digest != NONE else None
