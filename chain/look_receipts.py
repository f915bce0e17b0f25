"""Receipts for looks, as files and headers carry them, and what they prove (protocol 15).

A receipt is the hospital's word that it logged a look. Once the look is anchored, the receipt
has its place in the anchored batch with it, and is a proof.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from eth_account.signers.local import LocalAccount

from chain.addresses import checked_address, read_address
from chain.canonical import canonical_json, parse_json
from chain.digests import sha256
from chain.errors import InvalidInputError, VerificationError
from chain.files import replacing
from chain.looks import LookProof, look_leaf, recover_look_signer, sign_look, verify_look
from chain.signing import SIGNATURE_BYTES
from chain.types import AnchoredBatch, Look
from chain.wire import from_hex, from_json_dict, to_hex, to_json_dict

MAX_FILE = 16_384  # bytes
DAY = 86_400  # seconds
_GREATEST = (1 << 64) - 1
# Bytes of the short form's members: chain_id, access_logs, hospital, number, researcher, grant,
# version, image, time, request, salt, signature.
_PACKED = (8, 20, 20, 8, 20, 32, 32, 32, 8, 32, 32, SIGNATURE_BYTES)


@dataclass(frozen=True, slots=True)
class LookAnchor:
    """A look's place in an anchored batch.

    Attributes:
        batch: The batch's number on the ledger.
        root: Its Merkle root.
        first: The number of its first look.
        entries: How many looks it has.
        proof: The nodes from the look's leaf to the root.
    """

    batch: int
    root: bytes
    first: int
    entries: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LookReceipt:
    """A look under its hospital's signature.

    Attributes:
        chain_id: The chain of the federation (EIP-155).
        access_logs: The contract whose log the look is in.
        look: The look.
        salt: 32 bytes, which `look.request` was salted with.
        signature: The hospital's, 65 bytes.
        anchor: Its place in an anchored batch, None before it is anchored.
    """

    chain_id: int
    access_logs: str
    look: Look
    salt: bytes
    signature: bytes
    anchor: LookAnchor | None = None


class Fault(Enum):
    """What can be wrong with the looks that a hospital vouched for."""

    NOT_SIGNED = "the receipt is not signed by the hospital that it names"
    ANOTHER_LOG = "the receipt is for the log of another federation"
    BAD_PROOF = "the proof does not lead from the look to its batch"
    NOT_ON_LEDGER = "the ledger has no such batch"
    TWO_LOOKS = "the hospital signed two looks under one number"
    HIDDEN = "another look is anchored under the receipt's number"
    SHORT_LOG = "the look is not anchored, though it is long past"
    UNPROVEN = "its number is anchored, and nothing proves that it is with this look"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one look; `hospital` and `number` say which."""

    hospital: str
    number: int
    fault: Fault
    told: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What receipts came to.

    Attributes:
        proven: How many looks are proven to be in an anchored batch.
        pending: How many are not anchored yet, and need not be.
        findings: What is wrong.
    """

    proven: int
    pending: int
    findings: tuple[Finding, ...]


class Moment(Protocol):
    """A block, of which only the time counts here."""

    @property
    def timestamp(self) -> int:
        """Unix seconds."""


class AnchoredLogs(Protocol):
    """The part of `chain.reader.LedgerReader` that receipts are held against."""

    @property
    def chain_id(self) -> int:
        """The chain's number (EIP-155)."""

    @property
    def access_logs(self) -> str:
        """The AccessLogs' address."""

    def head(self) -> Moment:
        """Look up the newest block."""

    def anchored_batches(self, hospital: str | None = None) -> tuple[AnchoredBatch, ...]:
        """List the anchored batches of a hospital."""


def request_digest(salt: bytes, method: str, target: str) -> bytes:
    """Compute what a look tells of its request.

    Args:
        salt: 32 bytes, which keep others from guessing the request.
        method: The HTTP method.
        target: Path and query as on the request's first line.
    """
    return sha256(salt + f"{method} {target}".encode("ascii", "replace"))


def issue_receipt(
    chain_id: int, access_logs: str, look: Look, salt: bytes, account: LocalAccount
) -> LookReceipt:
    """Sign a look, as the hospital."""
    signature = sign_look(chain_id, access_logs, look, account)
    return LookReceipt(chain_id, access_logs, look, salt, signature)


def verify_receipt(receipt: LookReceipt) -> None:
    """Check what can be checked of a receipt without the chain.

    (1) The hospital that the look names signed it.
    (2) If it is anchored, the proof leads from the look to the root that stands beside it. That
    the ledger has this root is still to be seen.

    Raises:
        VerificationError: If the hospital did not.
        InclusionProofError: If the proof leads elsewhere.
    """
    look = receipt.look
    # (1) The hospital's signature.
    signer = recover_look_signer(receipt.chain_id, receipt.access_logs, look, receipt.signature)
    if signer != look.hospital:
        raise VerificationError(f"expected a signature of {look.hospital}, found one of {signer}")
    # (2) The proof.
    if (anchor := receipt.anchor) is not None:
        shown = LookProof(look, anchor.batch, anchor.proof)
        verify_look(shown, anchor.root, anchor.first, anchor.entries)


def judge(
    receipts: Sequence[LookReceipt], logs: AnchoredLogs | None, patience: int = DAY
) -> Judgement:
    """Hold receipts and proofs against each other and against the ledger.

    A hospital that hides a look for which it gave a receipt has another one under its number, or a
    log that ends before it: give the receipt together with what the hospital shows instead.

    Args:
        receipts: Receipts and proofs, of any hospitals.
        logs: The ledger, None to check without.
        patience: Seconds of the chain's time after which a look has to be anchored.

    Raises:
        LedgerError: If the chain cannot be reached.
    """
    findings: list[Finding] = []
    leaves: dict[tuple[str, int], dict[bytes, LookReceipt]] = {}
    anchored: dict[tuple[str, int], set[bytes]] = {}
    batches: dict[str, dict[int, AnchoredBatch]] = {}
    for one in receipts:
        look = one.look
        if logs is not None and look.hospital not in batches:
            found = logs.anchored_batches(look.hospital)
            batches[look.hospital] = {batch.batch: batch for batch in found}
        fault = _fault(one, logs, batches.get(look.hospital, {}))
        if fault is not None:
            findings.append(Finding(look.hospital, look.number, *fault))
        if fault is not None and fault[0] in {Fault.NOT_SIGNED, Fault.ANOTHER_LOG}:
            continue
        key, leaf = (look.hospital, look.number), look_leaf(look)
        leaves.setdefault(key, {}).setdefault(leaf, one)
        if fault is None and one.anchor is not None:
            anchored.setdefault(key, set()).add(leaf)
    proven = pending = 0
    for key, looks in sorted(leaves.items()):
        if len(looks) > 1:
            findings.append(Finding(*key, Fault.TWO_LOOKS, f"found {len(looks)} of them"))
        for leaf, one in looks.items():
            if leaf in anchored.get(key, set()):
                proven += 1
            elif key in anchored:
                told = "the receipt and the anchored proof under one number tell it"
                findings.append(Finding(*key, Fault.HIDDEN, told))
            elif logs is None or one.anchor is not None:
                pending += one.anchor is None
            elif (open_ := _unanchored(one, logs, batches[key[0]], patience)) is None:
                pending += 1
            else:
                findings.append(Finding(*key, *open_))
    return Judgement(proven, pending, tuple(findings))


def _fault(
    receipt: LookReceipt, logs: AnchoredLogs | None, batches: dict[int, AnchoredBatch]
) -> tuple[Fault, str] | None:
    """Tell what is wrong with one receipt by itself."""
    if logs is not None and (receipt.chain_id, receipt.access_logs) != (
        logs.chain_id,
        logs.access_logs,
    ):
        expected = f"{logs.access_logs} on chain {logs.chain_id}"
        return Fault.ANOTHER_LOG, f"expected {expected}, found {receipt.access_logs}"
    try:
        verify_receipt(replace(receipt, anchor=None))
    except VerificationError as error:
        return Fault.NOT_SIGNED, str(error)
    try:
        verify_receipt(receipt)
    except VerificationError as error:
        return Fault.BAD_PROOF, str(error)
    if (anchor := receipt.anchor) is None or logs is None:
        return None
    batch = batches.get(anchor.batch)
    if batch is None:
        return Fault.NOT_ON_LEDGER, f"{receipt.look.hospital} anchored {len(batches)} batches"
    if (batch.root, batch.first, batch.entries) != (anchor.root, anchor.first, anchor.entries):
        return Fault.NOT_ON_LEDGER, (
            f"batch {batch.batch} is {batch.entries} looks from {batch.first} under "
            f"{to_hex(batch.root)}"
        )
    return None


def _unanchored(
    receipt: LookReceipt, logs: AnchoredLogs, batches: dict[int, AnchoredBatch], patience: int
) -> tuple[Fault, str] | None:
    """Tell what is wrong with a look that nothing proves to be anchored."""
    entries = sum(batch.entries for batch in batches.values())
    if receipt.look.number < entries:
        return Fault.UNPROVEN, "ask the hospital for the proof of this number"
    age = logs.head().timestamp - receipt.look.time
    if age <= patience:
        return None
    return Fault.SHORT_LOG, f"{entries} looks are anchored, and this one is {age} seconds old"


def to_json(receipt: LookReceipt) -> bytes:
    """Write a receipt as canonical JSON."""
    anchor = receipt.anchor
    return canonical_json(
        {
            "chain_id": receipt.chain_id,
            "access_logs": receipt.access_logs,
            "look": to_json_dict(receipt.look),
            "salt": to_hex(receipt.salt),
            "signature": to_hex(receipt.signature),
            "anchor": None if anchor is None else to_json_dict(anchor),
        }
    )


def from_json(raw: bytes) -> LookReceipt:
    """Read a receipt that somebody else wrote, which is still to be verified.

    Raises:
        InvalidInputError: If it has another form.
    """
    told = parse_json(raw, MAX_FILE)
    names = {"chain_id", "access_logs", "look", "salt", "signature", "anchor"}
    if not isinstance(told, dict) or told.keys() != names:
        raise InvalidInputError(f"expected a receipt with the members {sorted(names)}")
    chain_id, anchor = told["chain_id"], told["anchor"]
    if type(chain_id) is not int or chain_id < 0:
        raise InvalidInputError(f"chain_id: expected an integer, found {chain_id!r:.100}")
    return LookReceipt(
        chain_id,
        read_address(told["access_logs"], "access_logs"),
        _look(told["look"]),
        from_hex(told["salt"], "salt"),
        _signature(told["signature"]),
        None if anchor is None else from_json_dict(LookAnchor, anchor),
    )


def to_header(receipt: LookReceipt) -> str:
    """Write a receipt as a header's value: its JSON in base64url (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(to_json(receipt)).decode("ascii")


def to_short_header(receipt: LookReceipt) -> str:
    """Write a receipt without its anchor as the value of a header of a part, in 412 characters.

    Viewers look for the end of a part's headers within a thousand bytes.
    """
    look = receipt.look
    numbers = (receipt.chain_id, look.number, look.time)
    chain_id, number, time = (value.to_bytes(8, "big") for value in numbers)
    logs, hospital, researcher = (
        bytes.fromhex(one[2:]) for one in (receipt.access_logs, look.hospital, look.researcher)
    )
    packed = chain_id + logs + hospital + number + researcher + look.grant + look.version
    packed += look.image + time + look.request + receipt.salt + receipt.signature
    return base64.urlsafe_b64encode(packed).decode("ascii")


def from_header(value: str) -> LookReceipt:
    """Read a receipt from a header's value, in either form.

    Raises:
        InvalidInputError: If it has another form.
    """
    try:
        return _from_bytes(base64.b64decode(value.encode("ascii"), b"-_", validate=True))
    except (binascii.Error, UnicodeError) as error:
        raise InvalidInputError(f"expected a receipt in base64url: {error}") from error


def _from_bytes(raw: bytes) -> LookReceipt:
    if len(raw) != sum(_PACKED):
        return from_json(raw)
    parts, place = [], 0
    for size in _PACKED:
        parts.append(raw[place : place + size])
        place += size
    chain_id, logs, hospital, number, researcher, grant, version, image = parts[:8]
    time, request, salt, signature = parts[8:]
    look = Look(
        hospital=checked_address(f"0x{hospital.hex()}"),
        number=int.from_bytes(number, "big"),
        researcher=checked_address(f"0x{researcher.hex()}"),
        grant=grant,
        version=version,
        image=image,
        time=int.from_bytes(time, "big"),
        request=request,
    )
    access_logs = checked_address(f"0x{logs.hex()}")
    return LookReceipt(int.from_bytes(chain_id, "big"), access_logs, look, salt, signature)


def write_receipt(path: Path, receipt: LookReceipt) -> None:
    """Write a receipt to a file that only its owner can read.

    Raises:
        OSError: If the file cannot be written.
    """
    with replacing(path) as file:
        file.write(to_json(receipt))


def read_receipt(path: Path) -> LookReceipt:
    """Read a receipt or proof from a file, which is still to be verified.

    Raises:
        InvalidInputError: If the file has another form.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return _from_bytes(file.read(MAX_FILE + 1))


def _look(told: object) -> Look:
    look = from_json_dict(Look, told)
    if max(look.number, look.time) > _GREATEST:
        raise InvalidInputError(f"expected number and time below 2^64, found {look.number}")
    return look


def _signature(text: object) -> bytes:
    length = 2 + 2 * SIGNATURE_BYTES
    if isinstance(text, str) and len(text) == length and text.startswith("0x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            pass
    raise InvalidInputError(f"signature: expected 0x and {length - 2} digits, found {text!r:.100}")
