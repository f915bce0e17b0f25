"""`fedwitness hospital erase`: erasing images for good, as where a patient withdraws."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.wire import to_hex
from cli.command import command
from cli.connect import writer
from cli.hospital import Dataset, IngestKey
from cli.screen import Screen, as_lines, numbered

if TYPE_CHECKING:
    from node.erasing import Output, Plan

# What no command here reaches.
_YOURS = (
    "the files that were taken in (sources), and where they came from, such as the PACS",
    "backups of any of it, and file systems that keep snapshots",
    "copies at those who looked (seen_by): ask them to delete theirs",
)


@command
def erase(
    *,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    patient: Annotated[
        list[str] | None,
        typer.Option(
            help="A patient's pseudonym, FW…, of whom every image goes; repeat for more.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            help="The id, in files.jsonl, of a file of which every image goes; repeat for more.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        list[int] | None,
        typer.Option(
            help="The number, from 0, of an image of the active version; repeat for more.",
            show_default=False,
        ),
    ] = None,
    dataset: Dataset = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `hospital ingest` wrote, from which files and lines go too; repeat for "
            "more. What `hospital register` ingested itself is found anyway.",
            show_default=False,
        ),
    ] = None,
    ingest_key: IngestKey = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase images for good, as where a patient withdraws: here and on the ledger.

    A version that rounds take is superseded by one without the images. The ledger shows from then
    on that they were erased; salts, images, labels, de-identified files and their lines are
    deleted, so that nobody can tell any more what the commitments were of. Proofs about other
    images still verify. Models that were trained on them stay, and are flagged.

    Killed at any point and called again, it goes on where it stopped.

    Example: fedwitness hospital erase --patient FW5KQ2… --data scans/ --key keys/st-mary.json
    """
    from node.erasing import Wanted, keep_plan, plan_erasure

    ledger = writer(federation, keyring, identity)
    plans = keyring.work / "erasures"
    begun = sorted(plans.glob("*.json"))
    told = [_carry_out(one, ledger, keyring, identity, screen) for one in begun]
    wanted = Wanted(
        frozenset(patient or ()),
        frozenset(file or ()),
        _images_by_file(ledger, keyring, identity.address, dataset, image or ()),
    )
    outputs = _outputs(keyring, data or (), ingest_key)
    try:
        plan = plan_erasure(wanted, keyring.datasets, outputs)
    except InvalidInputError:
        if not told:
            raise
        plan = None  # what was begun was all of it
    if plan is not None:
        _confirm(f"erase {plan.images} images and {_files(plan)} files for good?", screen, yes=yes)
        told.append(_carry_out(keep_plan(plan, plans), ledger, keyring, identity, screen))
    result: dict[str, Any] = {
        "erased": sum(one["images"] for one in told),
        "versions": [version for one in told for version in one["versions"]],
        "files": sum(one["files"] for one in told),
        "sources": [source for one in told for source in one["sources"]],
        "seen_by": sorted({viewer for one in told for viewer in one["seen_by"]}),
        "yours_to_delete": list(_YOURS),
    }
    screen.show(result, as_lines({**result, "versions": numbered(result["versions"])}))


def _outputs(
    keyring: Keyring, data: Sequence[Path], ingest_key: Path | None
) -> tuple["Output", ...]:
    """Return what ingests wrote: what is named, and what `register` ingested itself."""
    from node.erasing import Output
    from node.ingest import ATTESTATION

    own = keyring.pseudonym_key
    given = own if ingest_key is None else ingest_key
    named = {one.resolve(): Output(one, given) for one in data}
    found = sorted((keyring.work / "ingested").glob(f"*/{ATTESTATION}"))
    ours = {one.parent.resolve(): Output(one.parent, own) for one in found}
    return tuple((ours | named).values())


def _images_by_file(
    ledger: Ledger, keyring: Keyring, hospital: str, name: str | None, numbers: Sequence[int]
) -> dict[Path, frozenset[int]]:
    """Return numbers of images by the file of the active version that they are of."""
    from node.dataset import active_dataset

    if not numbers:
        return {}
    found = active_dataset(keyring.datasets, ledger, hospital, name)
    return {found.path: frozenset(numbers)}


def _files(plan: "Plan") -> int:
    return sum(len(one.names) for one in plan.outputs)


def _confirm(question: str, screen: Screen, *, yes: bool) -> None:
    if yes:
        return
    if screen.as_json:
        raise InvalidInputError("with --json nobody can be asked: say --yes")
    try:
        sure = typer.confirm(question)
    except typer.Abort:  # nobody is there to answer
        sure = False
    if not sure:
        raise InvalidInputError("nothing was erased: it was not confirmed; --yes does not ask")


def _carry_out(
    path: Path, ledger: Ledger, keyring: Keyring, identity: Identity, screen: Screen
) -> dict[str, Any]:
    """Carry a planned erasure out, and tell what became of everything."""
    from node.erasing import carry_out, read_plan
    from node.look_log import researchers_who_looked

    plan = read_plan(path)
    images = {one for dataset in plan.datasets for one in dataset.commitments}
    with screen.progress() as bars:
        bar = bars.add_task("erasing", total=None)
        done = carry_out(
            path,
            keyring.datasets,
            ledger,
            identity.address,
            lambda step: bars.update(bar, description=step),
        )
    return {
        "images": plan.images,
        "versions": [
            {
                "version": None if one.version is None else to_hex(one.version),
                "images": one.images,
                "correction": None if one.correction is None else to_hex(one.correction),
                "dataset": None if one.file is None else str(keyring.datasets / one.file),
            }
            for one in done
        ],
        "files": _files(plan),
        "sources": list(plan.sources),
        "seen_by": researchers_who_looked(keyring.work, identity.address, images),
    }
