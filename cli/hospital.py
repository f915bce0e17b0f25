"""`fedwitness hospital`: keys, data sets, and taking part in rounds.

What brings torch or pydicom along is imported by the commands that need it: they take seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.image_proofs import write_proof
from chain.keyring import Keyring
from chain.keystore import Identity, create_identity, read_password
from chain.reader import LedgerReader
from chain.secret_file import kept_secret
from chain.types import Purpose, Role
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import command
from cli.connect import reader, writer
from cli.screen import Screen, as_lines
from cli.waiting import interruptible

if TYPE_CHECKING:
    from node.dataset import CommittedDataset
    from node.hospital import Hospital, Listener
    from node.images import ImageSet
    from node.ingest import Choices, Ingested, Limits

app = typer.Typer(
    no_args_is_help=True,
    help="Register data and train together with others (hospitals).\n\n"
    "In this order: keygen, then a steward enrols you, init, ingest, register, and train-once or "
    "join.",
)

Data = Annotated[
    Path,
    typer.Option(help="What `hospital ingest` wrote; or a folder of images, or an .npz file."),
]


def _of_pseudonyms(key: Path | None) -> Path | None:
    """Return the key file of pseudonyms; of a keystore, the one beside it, as `ingest` does."""
    if key is not None and key.suffix == ".json" and key.is_file():
        return Keyring(key, None).pseudonym_key
    return key


IngestKey = Annotated[
    Path | None,
    typer.Option(
        help="The --key of `hospital ingest`, a key file or a keystore, if it was another one.",
        show_default=False,
        callback=_of_pseudonyms,
    ),
]
Name = Annotated[str, typer.Option(help="The data set's name on the ledger; everyone reads it.")]
Purposes = Annotated[
    list[Purpose],
    typer.Option(
        "--purpose",
        help="What it may be used for, by number of the Data Use Ontology: 4 no restriction, 6 "
        "health research, 7 one disease, 11 populations, 42 general research, 43 clinical care; "
        "repeat for more.",
    ),
]
Task = Annotated[str, typer.Option(help="The task's name, such as lesion-2d.")]
Dataset = Annotated[
    str | None, typer.Option(help="Which data set, where there are several.", show_default=False)
]


@app.command()
@command
def keygen(*, keyring: Keyring, screen: Screen) -> None:
    """Make the keys of a hospital, or of any other party, in two encrypted files.

    Give the address and the encryption key to a steward of the federation; keep the files.

    Example: fedwitness hospital keygen --key keys/st-mary.json
    """
    password = read_password(keyring.password_file, f"New password of {keyring.key}: ")
    identity = create_identity(keyring.key.parent, keyring.name, password)
    screen.show({"address": identity.address, "encryption_key": to_hex(identity.encryption_key)})


@app.command()
@command
def init(*, federation: Federation, keyring: Keyring, identity: Identity, screen: Screen) -> None:
    """Check that the federation is within reach and knows this hospital, and make its secret.

    The secret lies beside the key and makes the pseudonyms of its patients: back it up.

    Example: fedwitness hospital init --key keys/st-mary.json --federation federation.json
    """
    if not reader(federation).is_active(identity.address, Role.HOSPITAL):
        key = to_hex(identity.encryption_key)
        message = (
            f"{identity.address} is no active hospital of this federation: ask a steward for "
            f"`fedwitness participants enroll {identity.address} --role HOSPITAL "
            f"--encryption-key {key} --name NAME`"
        )
        raise InvalidInputError(message)
    keyring.pseudonym_secret()
    screen.show({"hospital": identity.address, "folder": str(keyring.work)})


@app.command()
@command
def ingest(
    *,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A folder of images of any kind, or one file.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Receives them free of identity: an empty folder, or that of an earlier run."
        ),
    ],
    key: Annotated[
        Path,
        typer.Option(
            envvar="FEDWITNESS_KEY",
            help="The key of pseudonyms, made if missing; or your keystore file, NAME.json.",
        ),
    ],
    screen: Screen,
    looked_at: Annotated[
        list[str] | None,
        typer.Option(
            help="The id, in files.jsonl, of a file whose pixels you have looked at and found no "
            "identity in; repeat for more.",
            show_default=False,
        ),
    ] = None,
    deface: Annotated[
        bool, typer.Option(help="Remove faces from T1 volumes of heads, where that can be done.")
    ] = True,
    seconds: Annotated[float, typer.Option(help="The longest that one file may take.")] = 120.0,
    processes: Annotated[int, typer.Option(help="How many files are opened at once.", min=1)] = 2,
) -> None:
    """Take in images of any kind, and remove identity from tags, pixels and faces.

    Works alone, without chain and IPFS. Run again, it goes on where it stopped, takes in what is
    new and deletes what came of files that are gone. Which file became what stands beside the key.

    Every file is taken (it is in the output), skipped (it is not; `reasons` says why) or held (a
    person has to look at it first: --looked-at releases it). Of what is taken: `images` are its
    slices, volumes and pictures, `blanked` the boxes of burned-in text that were blanked, `heads`
    the files that may show a face, `faces removed` and `faces kept` what became of those. `leaks`
    are places where a second scan, which shares no code with the first, found identity in a result;
    such files are held. `methods` are DICOM's codes (CID 7050) for what was done, and `attestation`
    is the digest that goes to the ledger with the data.

    Example: fedwitness hospital ingest /mnt/pacs-export --out scans --key keys/st-mary.json
    """
    from node.ingest import ATTESTATION, FILES, REPORT, Choices, Limits

    key, secret = _pseudonym_key(key, screen)
    begun = time.monotonic()
    done = _ingest(
        source,
        out,
        key,
        secret,
        Choices(frozenset(looked_at or ()), deface),
        Limits(seconds=seconds, processes=processes),
        screen=screen,
    )
    counts, reasons = done.report["counts"], done.report["reasons"]
    others = {
        "modalities": done.report["modalities"],
        "methods": [one["code"] for one in done.report["methods"]],
        "attestation": done.report["attestation"],
        "seconds": round(time.monotonic() - begun, 3),
        "files": {one: str(out / one) for one in (ATTESTATION, FILES, REPORT)},
        "names": str(done.private),
    }
    explained = [
        {"what": what, "count": count, "meaning": done.report["meanings"].get(what, "")}
        for what, count in (counts | reasons).items()
    ]
    screen.show({**counts, "reasons": reasons, **others}, as_lines({"counts": explained, **others}))


@app.command()
@command
def register(
    *,
    data: Data,
    name: Name,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    purpose: Purposes = [Purpose.HEALTH_RESEARCH],  # noqa: B006 - Typer does not change it
    ingest_key: IngestKey = None,
) -> None:
    """Commit to every image that was ingested, and register the data set.

    What was not ingested yet is ingested first. It is looked through for identity once more, and
    nothing is registered if there is any. Only the commitments' root, counts and terms go to the
    ledger. Images stay here.

    Example: fedwitness hospital register --data scans/ --name head-mri --key keys/st-mary.json
    """
    path = keyring.datasets / f"{name}.npz"
    image_set = _read_images(data, keyring, ingest_key, screen)
    dataset = _commit(path, name, image_set, frozenset(map(int, purpose)), screen=screen)
    _register(path, dataset, image_set, federation, keyring, identity, screen=screen)


@app.command()
@command
def supersede(
    *,
    version: Annotated[str, typer.Argument(help="The version that is corrected.")],
    data: Data,
    name: Name,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    purpose: Purposes = [Purpose.HEALTH_RESEARCH],  # noqa: B006 - Typer does not change it
    ingest_key: IngestKey = None,
) -> None:
    """Register a correction of a version, which no round takes any more from then on.

    Example: fedwitness hospital supersede 0x5f… --name head-mri --data scans/
    """
    previous = from_hex(version, "version")
    path = keyring.datasets / f"{name}-after-{previous.hex()[:16]}.npz"
    image_set = _read_images(data, keyring, ingest_key, screen)
    purposes = frozenset(map(int, purpose))
    dataset = _commit(path, name, image_set, purposes, previous, screen=screen)
    _register(path, dataset, image_set, federation, keyring, identity, screen=screen)


@app.command()
@command
def withdraw(
    *,
    version: Annotated[str, typer.Argument(help="The version, 0x and 64 digits.")],
    reason: Annotated[str, typer.Option(help="Why; everyone can read it.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Withdraw a version from all rounds to come.

    Example: fedwitness hospital withdraw 0x5f… --reason "consent revoked"
    """
    ledger = writer(federation, keyring, identity)
    receipt = ledger.withdraw(from_hex(version, "version"), reason)
    screen.show({"withdrawn": version, "block": receipt.block})


@app.command()
@command
def permit(
    *,
    version: Annotated[str, typer.Argument(help="The version, 0x and 64 digits.")],
    purpose: Annotated[
        list[Purpose], typer.Option(help="What it may be used for from now on; repeat for more.")
    ],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Replace the purposes that a version permits, for all rounds and grants to come.

    Example: fedwitness hospital permit 0x5f… --purpose 6 --purpose 42 --key keys/st-mary.json
    """
    purposes = frozenset(map(int, purpose))
    receipt = writer(federation, keyring, identity).permit_purposes(
        from_hex(version, "version"), purposes
    )
    screen.show({"version": version, "purposes": sorted(purposes), "block": receipt.block})


@app.command()
@command
def prove(
    *,
    image: Annotated[int, typer.Option(help="The image's number, from 0.")],
    out: Annotated[Path, typer.Option(help="Receives the proof, as JSON.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    dataset: Dataset = None,
) -> None:
    """Prove to whom you show an image that it is in your registered version.

    The proof tells which image was committed to: give it to nobody who may not see the image. It is
    checked by `fedwitness grants verify`.

    Example: fedwitness hospital prove --image 17 --out proof.json --key keys/st-mary.json
    """
    from node.dataset import active_dataset, prove_image

    ledger = reader(federation)
    found = active_dataset(keyring.datasets, ledger, identity.address, dataset)
    proof = prove_image(found.dataset, image)
    write_proof(out, found.version, proof)
    screen.show(
        {
            "proof": str(out),
            "version": to_hex(found.version),
            "dataset": str(found.path),
            "image": image,
            "commitment": to_hex(proof.commitment),
        }
    )


@app.command()
@command
def train_once(
    *,
    task: Task,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    dataset: Dataset = None,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the round's end, and for the verdict.")
    ] = 0.0,
) -> None:
    """Take part in the task's open round: fetch, train, seal, sign, send, until it is recorded.

    Interrupted anywhere and called again, it goes on where it stopped.

    Example: fedwitness hospital train-once --task lesion-2d --key keys/st-mary.json
    """
    from node.hospital import follow_verdict, take_part

    with _hospital(federation, keyring, identity, dataset) as hospital:
        found = hospital.client.active_round(task)
        if found is None:
            message = f"task {task} has no open round now: wait for one with `hospital join`"
            raise InvalidInputError(message)
        with _listening(screen) as listener:
            part = take_part(hospital, found.round.number, listener)
        ended = follow_verdict(hospital, part.round, seconds=wait)
    said = None if ended is None else ended.verdict
    screen.show(
        {
            "round": part.round,
            "record": to_json_dict(part.record),
            "phase": None if ended is None else ended.phase.name,
            "verdict": None if said is None else to_json_dict(said),
        }
    )


@app.command()
@command
def join(
    *,
    task: Task,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    dataset: Dataset = None,
) -> None:
    """Take part in one round of a task after another, until interrupted.

    Example: fedwitness hospital join --task lesion-2d --key keys/st-mary.json
    """
    from node.hospital import follow

    with (
        _hospital(federation, keyring, identity, dataset) as hospital,
        _listening(screen) as listener,
        interruptible() as stop,
    ):
        rounds = follow(hospital, task, stop.is_set, listener)
    screen.show({"rounds": rounds})


@app.command()
@command
def status(*, federation: Federation, keyring: Keyring, identity: Identity, screen: Screen) -> None:
    """Show what the ledger holds of this hospital: its standing, its data sets, its verdicts.

    Example: fedwitness hospital status --key keys/st-mary.json
    """
    ledger = reader(federation)
    party = ledger.participant(identity.address)
    screen.show(
        {
            "hospital": None if party is None else to_json_dict(party),
            "folder": str(keyring.work),
            "versions": [
                {
                    "version": to_hex(one.version),
                    "state": one.state.name,
                    "images": one.images,
                    "purposes": sorted(one.purposes),
                }
                for one in ledger.dataset_versions(identity.address)
            ],
            "updates": _updates(ledger, identity.address),
        }
    )


def _read_images(
    data: Path, keyring: Keyring, ingest_key: Path | None, screen: Screen
) -> "ImageSet":
    """Read what was ingested; ingest it first where that was not done."""
    from node.images import read_ingested
    from node.ingest import ATTESTATION
    from node.pseudonyms import Pseudonyms

    key = keyring.pseudonym_key
    secret = keyring.pseudonym_secret()
    if (data / ATTESTATION).is_file():
        out, key = data, key if ingest_key is None else ingest_key
    else:
        out = keyring.work / "ingested" / Pseudonyms(secret).file(str(data.resolve()))
        _ingest(data, out, key, secret, screen=screen)
    with screen.progress() as bars:
        bar = bars.add_task("looking for identity", total=None)
        return read_ingested(out, key, lambda: bars.advance(bar))


def _pseudonym_key(key: Path, screen: Screen) -> tuple[Path, bytes]:
    """Return the key file of pseudonyms, and what it holds; of a keystore, the one beside it."""
    if key.suffix == ".json":
        key = Keyring(key, None).pseudonym_key
    if not key.exists():
        screen.say(f"{key} is not there yet: made, with a new secret; back it up")
    return key, kept_secret(key)


def _ingest(
    source: Path,
    out: Path,
    key: Path,
    secret: bytes,
    choices: "Choices | None" = None,
    limits: "Limits | None" = None,
    *,
    screen: Screen,
) -> "Ingested":
    from node.ingest import Choices, Limits
    from node.ingest import ingest as take_in

    with screen.progress() as bars:
        bar = bars.add_task("removing identity", total=None)

        def advance(done: int, of: int) -> None:
            bars.update(bar, completed=done, total=of)

        return take_in(source, out, key, secret, choices or Choices(), limits or Limits(), advance)


def _commit(
    path: Path,
    name: str,
    image_set: "ImageSet",
    purposes: frozenset[int],
    previous: bytes = bytes(32),
    *,
    screen: Screen,
) -> "CommittedDataset":
    from node.dataset import commit_images

    with screen.progress() as bars:
        bar = bars.add_task("committing", total=len(image_set.labels))
        return commit_images(path, name, image_set, purposes, previous, lambda: bars.advance(bar))


def _register(
    path: Path,
    dataset: "CommittedDataset",
    image_set: "ImageSet",
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    *,
    screen: Screen,
) -> None:
    from node.dataset import register as register_version

    ledger = writer(federation, keyring, identity)
    version = register_version(dataset, ledger, identity.address)
    for note in image_set.notes:
        screen.say(note)
    screen.show(
        {
            "version": to_hex(version),
            "dataset": str(path),
            "images": dataset.terms.images,
            "modality": dataset.terms.modality,
            "deidentification": image_set.attestation.to_dict(),
        }
    )


@contextmanager
def _hospital(
    federation: Federation, keyring: Keyring, identity: Identity, name: str | None
) -> Iterator["Hospital"]:
    from node.client import RestClient
    from node.dataset import active_dataset
    from node.hospital import Hospital

    federation.needs("api_url")
    ledger = reader(federation)
    found = active_dataset(keyring.datasets, ledger, identity.address, name)
    with RestClient(federation.api_url, identity, ledger.chain_id, ledger.address) as client:
        yield Hospital(identity, keyring.work, client, found.dataset, found.version, ledger)


@contextmanager
def _listening(screen: Screen) -> Iterator["Listener"]:
    """Show the steps of taking part, and training as a bar."""
    from node.hospital import STEPS, Listener

    with screen.progress() as bars:
        steps = bars.add_task(STEPS[0], total=len(STEPS))
        training = bars.add_task("epochs", total=None, visible=False)
        yield Listener(
            on_step=lambda step: bars.update(steps, description=step, completed=STEPS.index(step)),
            on_epoch=lambda one: bars.update(
                training, completed=one.epoch, total=one.epochs, visible=one.epoch < one.epochs
            ),
        )


def _updates(ledger: LedgerReader, hospital: str) -> list[dict[str, object]]:
    """List the hospital's records with what became of them."""
    found: list[dict[str, object]] = []
    for number in range(1, ledger.round_count() + 1):
        if all(one.record.hospital != hospital for one in ledger.records(number)):
            continue
        proposal = ledger.round(number).proposal
        verdicts = () if proposal is None else ledger.verdicts(number, proposal.number)
        said = next((one for one in verdicts if one.hospital == hospital), None)
        found.append(
            {
                "round": number,
                "outcome": None if said is None else said.outcome.name,
                "reason": None if said is None else said.reason.name,
            }
        )
    return found
