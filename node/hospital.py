"""Taking part: one round from its opening to the verdict, and one round after another.

Each finished step leaves a file in the round's folder, whole or not at all. Killed anywhere, the
hospital goes on behind the last finished step: envelope and record are then sent again as they are,
and never made a second time, because a second envelope would be another blob than the record names.

    round.json               the round's terms and recipients, as they were checked
    base.safetensors         the base model
    update.safetensors       the trained update
    envelope                 the update, sealed to the recipients
    record.json              the signed record
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from chain.canonical import canonical_json, parse_json
from chain.cid import blob_cid
from chain.digests import content_digest, update_digest
from chain.envelope import EnvelopeContext, seal
from chain.errors import (
    DigestMismatchError,
    FedWitnessError,
    InvalidInputError,
    PhaseError,
    ServerError,
    VerificationError,
)
from chain.files import pieces, replacing
from chain.keystore import Identity
from chain.schema import Schema
from chain.signing import recover_update_signer, sign_update
from chain.types import DatasetState, DatasetVersion, Phase, Round, UpdateRecord
from chain.wire import from_hex, from_json_dict, to_hex, to_json_dict
from node.answers import OpenRound, UpdateStatus, UploadStatus
from node.client import RestClient
from node.dataset import CommittedDataset
from node.images import NO_LABEL
from node.tasks import task_named
from node.training import Progress, code_digest, schema_of, train

MAX_STATE = 1 << 20  # bytes of a JSON file
STEPS = ("round", "base model", "training", "sealing", "signing", "sending", "recording")
_SEED_TAG = b"fedwitness.seed.v1"
_ENDED = frozenset({Phase.FINAL, Phase.ABORTED})
# The ledger's refusals of a record that comes after the round's others.
_TOO_LATE = frozenset(
    {"RoundLedgerRoundFull", "RoundLedgerLateRecord", "RoundLedgerUnexpectedPhase"}
)

_log = logging.getLogger(__name__)


class RoundReader(Protocol):
    """The part of `chain.reader.LedgerReader` that checks what the server says of a round."""

    def round(self, number: int) -> Round:
        """Return a round as the ledger has it."""

    def recipients(self, round_number: int) -> tuple[bytes, ...]:
        """Return the keys that a round's envelopes are sealed to."""

    def dataset_version(self, version: bytes) -> DatasetVersion:
        """Return a data-set version as it stands now."""


class UnusableDataError(FedWitnessError):
    """The hospital's own data set may not be trained on any more, in whatever round."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who wants to know how it goes; each call gets what it says and does what it likes.

    Attributes:
        on_step: Told the name of each step in `STEPS` as it begins.
        on_epoch: Told after each epoch of training.
        on_bytes: Told how many of the envelope's bytes have arrived.
    """

    on_step: Callable[[str], None] = lambda _: None
    on_epoch: Callable[[Progress], None] = lambda _: None
    on_bytes: Callable[[int], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Hospital:
    """A hospital that takes part in a federation's rounds.

    Attributes:
        identity: Its keys.
        folder: Its private folder; rounds are kept below ``rounds``.
        client: Its session with the REST server, which also knows chain and ledger.
        dataset: What it learns from.
        version: The dataset's version on the ledger.
        reader: Its own view of the chain, or None. Without one the hospital has to take the
            server's word for whose keys the recipients are, and so for who can read its update.
    """

    identity: Identity
    folder: Path
    client: RestClient
    dataset: CommittedDataset
    version: bytes
    reader: RoundReader | None = None


@dataclass(frozen=True, slots=True)
class Participation:
    """A hospital's part in a round: the record that it signed, which is on the ledger now."""

    round: int
    record: UpdateRecord
    signature: bytes


_NOBODY = Listener()


def take_part(
    hospital: Hospital,
    number: int,
    listener: Listener = _NOBODY,
    *,
    seconds: float = 600.0,
    pause: Callable[[float], None] = time.sleep,
) -> Participation:
    """Train for a round and send the update until it is recorded, or go on where it stopped.

    Args:
        hospital: Who takes part.
        number: The round.
        listener: Told how it goes.
        seconds: How long to wait for the recording once all is sent.
        pause: Waits so many seconds, for tests.

    Raises:
        PhaseError: If the round takes no updates any more.
        InvalidInputError: If the round does not suit the hospital's data.
        UnusableDataError: If the data set was withdrawn or superseded; nothing is trained then.
        VerificationError: If the server tells what the ledger does not have, or sends other bytes.
        ServerError: If the server or the ledger refuses the update, or cannot be reached.
        OSError: If the disk is full.
    """
    folder = _round_folder(hospital, number)
    listener.on_step("round")
    opened = _opened_round(hospital, number, folder)
    terms = opened.round.terms
    listener.on_step("base model")
    base = _base_model(hospital, opened, folder)
    listener.on_step("training")
    update = folder / "update.safetensors"
    if not update.exists():
        _check_usable(hospital, terms.purpose)
        data = hospital.dataset
        seed = training_seed(hospital, number)
        train(terms.task, base, data.images, data.labels, update, seed, on_epoch=listener.on_epoch)
    listener.on_step("sealing")
    envelope = folder / "envelope"
    if not envelope.exists():
        context = EnvelopeContext(
            hospital.client.chain_id, hospital.client.ledger, number, hospital.identity.address
        )
        seal(update, update.stat().st_size, context, opened.recipients, envelope)
    listener.on_step("signing")
    record, signature = _signed_record(hospital, opened, folder)
    listener.on_step("sending")
    # A server that lost what it knew of the upload would now see a second record.
    if not _is_recorded(hospital, record):
        _check_usable(hospital, terms.purpose)
        upload = hospital.client.upload(record, signature, envelope, listener.on_bytes)
        listener.on_step("recording")
        _wait_for_recording(hospital, upload, record, seconds, pause)
    return Participation(number, record, signature)


def follow_verdict(
    hospital: Hospital,
    number: int,
    *,
    seconds: float = 3600.0,
    pause: Callable[[float], None] = time.sleep,
) -> UpdateStatus | None:
    """Wait until a round has ended, and return what became of the hospital's update in it.

    Returns:
        The status as it is at the end or when the time is over; None where no update of the
        hospital is recorded.

    Raises:
        ServerError: If the server refuses, or cannot be reached.
        VerificationError: If the server shows a record that the hospital did not sign.
    """
    ends = time.monotonic() + seconds
    while True:
        status = hospital.client.update(number)
        if status is not None:
            _check_own(hospital, number, status)
        if status is None or status.phase in _ENDED or time.monotonic() >= ends:
            return status
        pause(2.0)


def follow(
    hospital: Hospital,
    task_name: str,
    until: Callable[[], bool],
    listener: Listener = _NOBODY,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Take part in one round of a task after another, until told to stop.

    A round that does not suit the hospital's data, or that others filled first, is passed over:
    whoever opens one must not thereby end the hospital's part in the task.

    Args:
        hospital: Who takes part.
        task_name: The task.
        until: Asked between rounds and while waiting for one; true ends the loop.
        listener: Told how it goes.
        pause: Waits so many seconds, for tests.

    Returns:
        How many rounds the hospital took part in.

    Raises:
        UnusableDataError: If the data set was withdrawn or superseded.
        VerificationError: If the server tells what the ledger does not have.
        ServerError: If the server refuses for another reason, or cannot be reached.
        OSError: If the disk is full.
    """
    seen: set[int] = set()
    taken = 0
    while not until():
        found = hospital.client.active_round(task_name)
        number = 0 if found is None else found.round.number
        if found is not None and number not in seen and _takes_updates(found.round):
            seen.add(number)
            taken += _took_part(hospital, number, listener, pause)
        else:
            pause(2.0)
    return taken


def _took_part(
    hospital: Hospital, number: int, listener: Listener, pause: Callable[[float], None]
) -> bool:
    try:
        take_part(hospital, number, listener, pause=pause)
    except (InvalidInputError, PhaseError, ServerError) as error:
        if isinstance(error, ServerError) and error.contract_error not in _TOO_LATE:
            raise
        _log.warning("round %d is passed over: %s", number, error)
        return False
    return True


def training_seed(hospital: Hospital, number: int) -> int:
    """Return the seed of a round's training: of this hospital, round and ledger, and no other.

    A training that was killed and starts again thereby comes to the same update.
    """
    place = f"{hospital.client.chain_id} {hospital.client.ledger} {number}"
    digest = sha256(_SEED_TAG + f"{place} {hospital.identity.address}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes seeds of 63 bits


def _round_folder(hospital: Hospital, number: int) -> Path:
    ledger = f"{hospital.client.chain_id}-{hospital.client.ledger}"
    folder = hospital.folder / "rounds" / ledger / str(number)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _opened_round(hospital: Hospital, number: int, folder: Path) -> OpenRound:
    """Return the round that this hospital began, or begin it after checking that it suits."""
    path = folder / "round.json"
    if path.exists():
        members = _read_state(path)
        return OpenRound(
            from_json_dict(Round, members.get("round")),
            tuple(from_hex(key, "recipients") for key in members.get("recipients", ())),
        )
    opened = hospital.client.round(number)
    _check_on_chain(hospital, opened)
    _check_suits(hospital, opened.round)
    _write_state(
        path,
        {
            "round": to_json_dict(opened.round),
            "recipients": [to_hex(key) for key in opened.recipients],
        },
    )
    return opened


def _check_on_chain(hospital: Hospital, opened: OpenRound) -> None:
    """Hold what the server says against the hospital's own view of the chain."""
    if hospital.reader is None:
        return
    number = opened.round.number
    found = hospital.reader.round(number)
    for what, expected, told in (
        ("terms", found.terms, opened.round.terms),
        ("aggregator", found.aggregator, opened.round.aggregator),
        ("recipients", hospital.reader.recipients(number), opened.recipients),
    ):
        if expected != told:
            raise VerificationError(
                f"round {number}: the server tells other {what} than the ledger has; do not send "
                "an update to it, and ask its operator"
            )


def _check_suits(hospital: Hospital, found: Round) -> None:
    """Refuse a round that the ledger would refuse the update of, before any work is done."""
    terms, data = found.terms, hospital.dataset.terms
    if not _takes_updates(found):
        raise PhaseError(
            f"round {found.number} takes no updates: it is {found.phase.name} and its deadline is "
            f"{terms.deadline}; take part in the task's next round"
        )
    _schema_of_base(found)
    if (hospital.dataset.labels == NO_LABEL).any():
        raise InvalidInputError(
            f"the images of data set {data.name!r} have no labels, so nothing can be learned from "
            "them: put a labels.csv beside the images, ingest them again and correct the version"
        )
    if terms.purpose not in data.purposes:
        raise InvalidInputError(
            f"round {found.number} serves purpose DUO:{terms.purpose:07d}, which data set "
            f"{data.name!r} does not permit (it permits {sorted(data.purposes)})"
        )
    if data.modality not in task_named(terms.task).modalities:
        raise InvalidInputError(
            f"task {terms.task} learns from {sorted(task_named(terms.task).modalities)}, and data "
            f"set {data.name!r} is of modality {data.modality!r}"
        )


def _check_usable(hospital: Hospital, purpose: int) -> None:
    """Refuse to train on data that were withdrawn since this hospital's process began."""
    if hospital.reader is None:
        return
    version, name = hospital.reader.dataset_version(hospital.version), hospital.dataset.terms.name
    if version.state is not DatasetState.ACTIVE:
        raise UnusableDataError(
            f"data set {name!r}, version {to_hex(hospital.version)}, is {version.state.name} on "
            "the ledger: nothing is trained on it any more. Start again with the version that is "
            "active, if there is one"
        )
    if purpose not in version.purposes:
        raise InvalidInputError(
            f"data set {name!r}, version {to_hex(hospital.version)}, does not permit "
            f"DUO:{purpose:07d} any more (it permits {sorted(version.purposes)})"
        )


def _schema_of_base(found: Round) -> Schema:
    """Return the schema of a round's base model: its task's, perhaps with an optimiser's state."""
    terms = found.terms
    for schema in schema_of(terms.task).models():
        if schema.digest() == terms.schema:
            return schema
    raise InvalidInputError(
        f"round {found.number}: expected the schema of this version's {terms.task}, found "
        f"{to_hex(terms.schema)}; another version of the software opened it"
    )


def _takes_updates(found: Round) -> bool:
    open_now = found.phase in {Phase.OPEN, Phase.COLLECTING}
    return open_now and found.terms.deadline >= time.time()


def _base_model(hospital: Hospital, opened: OpenRound, folder: Path) -> Path:
    path, terms = folder / "base.safetensors", opened.round.terms
    if not path.exists():
        size = _schema_of_base(opened.round).file_size()
        hospital.client.fetch_model(terms.base_model, terms.base_blob, path, size)
    return path


def _signed_record(
    hospital: Hospital, opened: OpenRound, folder: Path
) -> tuple[UpdateRecord, bytes]:
    path = folder / "record.json"
    if not path.exists():
        record = _record(hospital, opened, folder)
        signature = sign_update(record, hospital.identity.account)
        _write_state(path, {"record": to_json_dict(record), "signature": f"0x{signature.hex()}"})
    members = _read_state(path)
    record = from_json_dict(UpdateRecord, members.get("record"))
    try:
        signature = bytes.fromhex(str(members.get("signature")).removeprefix("0x"))
    except ValueError as error:
        raise InvalidInputError(f"{path}: the signature is damaged") from error
    if recover_update_signer(record, signature) != hospital.identity.address:
        raise VerificationError(f"{path}: expected this hospital's signature, found another's")
    return record, signature


def _record(hospital: Hospital, opened: OpenRound, folder: Path) -> UpdateRecord:
    terms, client = opened.round.terms, hospital.client
    content = content_digest(folder / "update.safetensors")
    address = hospital.identity.address
    return UpdateRecord(
        chain_id=client.chain_id,
        ledger=client.ledger,
        round=opened.round.number,
        hospital=address,
        datasets=(hospital.version,),
        purpose=terms.purpose,
        examples=len(hospital.dataset.labels),
        base_model=terms.base_model,
        update=update_digest(client.chain_id, client.ledger, opened.round.number, address, content),
        blob=blob_cid(pieces(folder / "envelope")).digest,
        code=code_digest(),
    )


def _wait_for_recording(
    hospital: Hospital,
    upload: UploadStatus,
    record: UpdateRecord,
    seconds: float,
    pause: Callable[[float], None],
) -> None:
    ends = time.monotonic() + seconds
    while upload.state != "recorded":
        if upload.state == "refused":
            raise ServerError(
                f"the update was refused: {upload.problem}", "refused", upload.contract_error
            )
        if time.monotonic() > ends:
            raise ServerError(
                f"the update is {upload.state} after {seconds:.0f} s, {upload.problem or 'no word'}"
                "; try again, it goes on from there"
            )
        pause(0.5)
        upload = hospital.client.upload_status(upload.id)
    if not _is_recorded(hospital, record):
        raise VerificationError(
            f"round {record.round}: the server calls the update recorded and shows no record of it"
        )


def _is_recorded(hospital: Hospital, record: UpdateRecord) -> bool:
    status = hospital.client.update(record.round)
    if status is not None:
        _check_own(hospital, record.round, status)
    return status is not None


def _check_own(hospital: Hospital, number: int, status: UpdateStatus) -> None:
    """Refuse a record that the hospital did not sign, where its own is at hand."""
    path = _round_folder(hospital, number) / "record.json"
    if not path.exists():
        return
    own = from_json_dict(UpdateRecord, _read_state(path).get("record"))
    if status.record != own:
        raise DigestMismatchError(
            f"update recorded in round {number}", to_hex(own.update), to_hex(status.record.update)
        )


def _write_state(path: Path, members: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(canonical_json(members))


def _read_state(path: Path) -> dict[str, Any]:
    members = parse_json(path.read_bytes(), MAX_STATE)
    if not isinstance(members, dict):
        raise InvalidInputError(f"{path}: expected a JSON object, found something else")
    return members
