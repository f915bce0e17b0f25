"""`fedwitness readings`: what hospitals ask of each other's clinicians, from question to answer.

What brings pydicom and the models of FHIR along is imported by the commands that need it.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.addresses import checked_address
from chain.federation import Federation
from chain.files import replacing
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.readings import NONE, ReadingRequest, RequestState, has_lapsed
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import command
from cli.connect import reader, writer
from cli.desk import (
    Clinician,
    Dataset,
    DocumentFile,
    Findings,
    Form,
    Hospital,
    Impression,
    Instance,
    LookedAt,
    Making,
    Number,
    Organization,
    Preliminary,
    To,
    desk_of,
    document_given,
    subject_given,
    tell,
    text_given,
    words_given,
)
from cli.hospital import IngestKey
from cli.screen import Screen, as_lines, moment, numbered

SECONDS_PER_HOUR = 3_600

app = typer.Typer()


class State(StrEnum):
    """Where a request stands, as an option."""

    OPEN = "open"
    TAKEN = "taken"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"


RequestId = Annotated[str, typer.Argument(metavar="REQUEST", help="The request, 0x and 64 digits.")]


@app.command()
@command
def ask(
    *,
    dataset: Dataset,
    image: Number,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    question: Annotated[
        str,
        typer.Option(
            help="What you want to know, sealed to whoever may take it; a text, or @FILE with it.",
            show_default=False,
        ),
    ] = "",
    reader_: Annotated[
        str | None,
        typer.Option("--reader", help="The one hospital that may take it; any if not given."),
    ] = None,
    opinion_on: Annotated[
        str | None, typer.Option(help="The reading on which you want a second opinion.")
    ] = None,
    show_reading: Annotated[
        bool,
        typer.Option("--show-reading", help="Let whoever may take it open that reading at once."),
    ] = False,
    take_hours: Annotated[
        float, typer.Option(help="Within how many hours it can be taken.")
    ] = 24.0,
    fulfil_hours: Annotated[
        float, typer.Option(help="Within how many hours the reading has to be there.")
    ] = 72.0,
    instance: Instance = None,
    ingest_key: IngestKey = None,
    looked_at: LookedAt = False,
    hospital: Hospital = None,
) -> None:
    """Ask other hospitals for a reading of an image of yours, or for a second opinion.

    Whoever takes it has to see the image: give that hospital's account a grant, for the purpose 43
    (clinical care), with `grants give`.

    Example: fedwitness readings ask --dataset keys/st-mary.work/datasets/head-mri.npz --image 17
    --opinion-on 0x7c… --question "Is the lesion new?" --reader 0xAb…12 --key keys/st-mary.json
    """
    from node.readings.desk import ask as ask_for_reading
    from node.readings.documents import refuse_identity
    from node.readings.fhir_report import look_through_question
    from node.readings.subject import find_image

    desk = desk_of(federation, keyring, identity, hospital, None)
    shown = find_image(desk.ledger, desk.hospital, dataset, image)
    subject = subject_given(instance, shown.digest, ingest_key, keyring, screen)
    said = ask_for_reading(
        desk,
        shown,
        text_given(question),
        take_within=int(take_hours * SECONDS_PER_HOUR),
        fulfil_within=int(fulfil_hours * SECONDS_PER_HOUR),
        reader=None if reader_ is None else checked_address(reader_),
        opinion_on=NONE if opinion_on is None else from_hex(opinion_on, "opinion-on"),
        shown=show_reading,
        check=lambda raw: refuse_identity(look_through_question(raw, subject), looked_at=looked_at),
    )
    tell(screen, "request", said.id, said.before, image=to_hex(shown.commitment))


@app.command()
@command
def requests(
    *,
    federation: Federation,
    screen: Screen,
    state: Annotated[
        State | None, typer.Option(help="Only those that are in this state.", show_default=False)
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(help="Only those of this hospital.", show_default=False)
    ] = None,
) -> None:
    """Show the board of requests: what is open, taken, fulfilled and cancelled.

    Example: fedwitness readings requests --state open --federation federation.json
    """
    federation.needs("image_access")
    ledger = reader(federation)
    wanted = None if state is None else RequestState[state.name]
    asking = None if hospital is None else checked_address(hospital)
    found = ledger.readings.requests(asking, wanted)
    now = ledger.next_timestamp()
    data = {"now": now, "requests": [_request_json(one, now) for one in found]}
    screen.show(data, as_lines(numbered([_request_for_people(one, now) for one in found])))


@app.command()
@command
def question(
    *,
    request: RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    out: Annotated[
        Path | None, typer.Option(help="Receives it as a FHIR ServiceRequest.", show_default=False)
    ] = None,
) -> None:
    """Open what a request asks.

    Example: fedwitness readings question 0x3e… --key keys/clinic.json
    """
    from node.readings.desk import open_question
    from node.readings.fhir_report import look_through_question, words_of

    desk = desk_of(federation, keyring, identity, None, None)
    raw = open_question(desk, from_hex(request, "request"))
    look_through_question(raw)
    if out is not None:
        with replacing(out) as file:
            file.write(raw)
    screen.show(
        {"request": request, "asks": words_of(raw), "out": None if out is None else str(out)}
    )


@app.command()
@command
def take(
    *,
    request: RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    hospital: Hospital = None,
) -> None:
    """Take an open request of another hospital, which then waits for your reading.

    Example: fedwitness readings take 0x3e… --key keys/clinic.json
    """
    federation.needs("image_access")
    readings = writer(federation, keyring, identity).readings
    named = from_hex(request, "request")
    readings.take(named, None if hospital is None else checked_address(hospital))
    until = readings.request(named).terms.fulfil_by
    data = {"taken": request, "fulfil_by": until, "until": moment(until)}
    screen.show(data, as_lines({"taken": request, "until": moment(until)}))


@app.command()
@command
def release(
    *,
    request: RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Give back a request that your hospital has taken; it is open again.

    Example: fedwitness readings release 0x3e… --key keys/clinic.json
    """
    federation.needs("image_access")
    writer(federation, keyring, identity).readings.release(from_hex(request, "request"))
    screen.show({"released": request})


@app.command()
@command
def cancel(
    *,
    request: RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Cancel a request of your hospital: while it is open, or once its time is over.

    Example: fedwitness readings cancel 0x3e… --key keys/st-mary.json
    """
    federation.needs("image_access")
    writer(federation, keyring, identity).readings.cancel(from_hex(request, "request"))
    screen.show({"cancelled": request})


@app.command()
@command
def fulfil(
    *,
    request: RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    document: DocumentFile = None,
    impression: Impression = None,
    findings: Findings = "",
    form: Making = Form.FHIR,
    clinician: Clinician = "",
    organization: Organization = "",
    preliminary: Preliminary = False,
    instance: Instance = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            help="What `hospital prove` wrote about the image: --instance is then held against it."
        ),
    ] = None,
    looked_at: LookedAt = False,
    to: To = None,
    hospital: Hospital = None,
) -> None:
    """Record the reading that another hospital asked for and yours took.

    --instance is the file that you fetched from that hospital's gateway.

    Example: fedwitness readings fulfil 0x3e… --instance image.dcm --form dicom --clinician Doe^Jane
    --impression "The lesion is new." --key keys/clinic.json
    """
    from node.readings.desk import fulfil as fulfil_request
    from node.readings.subject import proven_digest

    desk = desk_of(federation, keyring, identity, hospital, to)
    found = desk.ledger.readings.request(from_hex(request, "request"))
    digest = proven_digest(desk.ledger, proof, found.terms.image)
    subject = subject_given(instance, digest, None, keyring, screen)
    words = words_given(impression, findings, clinician, organization, preliminary=preliminary)
    written = document_given(document, words, form, subject, looked_at=looked_at)
    said = fulfil_request(desk, found.request, written)
    tell(screen, "reading", said.id, said.before, request=request)


def _request_json(one: ReadingRequest, now: int) -> dict[str, Any]:
    found = to_json_dict(one)
    terms = found.pop("terms")
    for name in ("opinion_on", "question"):
        terms[name] = None if getattr(one.terms, name) == NONE else terms[name]
    lapsed = has_lapsed(one.state, one.terms.take_by, one.terms.fulfil_by, now)
    return {**found, **terms, "lapsed": lapsed}


def _request_for_people(one: ReadingRequest, now: int) -> dict[str, object]:
    found = _request_json(one, now)
    state = one.state.name.lower() + (", lapsed" if found["lapsed"] else "")
    names = ("request", "image", "hospital", "reader", "opinion_on", "taker", "reading")
    times = {"take by": moment(one.terms.take_by), "fulfil by": moment(one.terms.fulfil_by)}
    asks = "sealed" if found["question"] else None
    return {"state": state} | {name: found[name] for name in names} | times | {"question": asks}
