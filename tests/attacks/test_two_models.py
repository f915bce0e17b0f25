"""Two hospitals are shown different models: the one that is lied to refuses by digest.

What is proposed under one digest and stored as another model is disputed
(`test_lying_aggregator.py`); here a server or an IPFS node gives one hospital another base model.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import numpy as np
import pytest

from aggregator.replay import fetch_base_model
from chain.blobs import IpfsBlobStore
from chain.cid import Cid, blob_cid
from chain.digests import content_digest
from chain.errors import ContractRevertedError, DigestMismatchError, VerificationError
from chain.types import Purpose, Round
from node.attestation import attest
from node.client import RestClient
from node.dataset import commit_images
from node.hospital import Hospital, Listener, RoundReader, take_part
from node.images import ImageSet
from node.training import initial_model, schema_of
from tests.federation import Federation
from tests.hostile_ipfs import hostile_ipfs, send
from tests.node.fake_server import URL, FakeServer

TASK = "pneumonia-2d"
FAVOURED, VICTIM = "hospital-1", "hospital-2"


@dataclass(frozen=True, slots=True)
class TwoModels:
    """A round on the ledger, the model that it starts from, and another one of the same form."""

    federation: Federation
    number: int
    base: Path
    other: Path
    folder: Path

    @property
    def round(self) -> Round:
        return self.federation.reader.round(self.number)

    def other_round(self) -> Round:
        """The round as it would be if it started from the other model."""
        digest, blob = content_digest(self.other), blob_cid([self.other.read_bytes()]).digest
        terms = replace(self.round.terms, base_model=digest, base_blob=blob)
        return replace(self.round, terms=terms)

    @contextmanager
    def hospital(
        self, name: str, server: httpx.BaseTransport, reader: RoundReader | None = None
    ) -> Iterator[Hospital]:
        """A hospital's own software, on a server of this behaviour."""
        identity, folder = self.federation.identities[name], self.folder / name
        folder.mkdir()
        images = ImageSet(
            images=np.random.default_rng(0).integers(0, 255, (2, 28, 28), dtype=np.uint8),
            labels=np.array([0, 1]),
            modality="DX",
            sources=("a", "b"),
            attestation=attest({"images": 2}),
        )
        purposes = frozenset({Purpose.HEALTH_RESEARCH.value})
        dataset = commit_images(folder / "images.npz", name, images, purposes)
        place = (self.federation.reader.chain_id, self.federation.reader.address)
        with RestClient(URL, identity, *place, transport=server, pause=lambda _: None) as client:
            version = self.federation.versions[name]
            yield Hospital(identity, folder, client, dataset, version, reader)


@pytest.fixture
def models(federation: Federation, tmp_path: Path) -> TwoModels:
    base, other = tmp_path / "base", tmp_path / "other"
    initial_model(TASK, 1, base)
    initial_model(TASK, 2, other)
    number = federation.open_round(
        task=TASK,
        base_model=content_digest(base),
        base_blob=blob_cid([base.read_bytes()]).digest,
        schema=schema_of(TASK).digest(),
        deadline=int(time.time()) + 3600,
    )
    return TwoModels(federation, number, base, other, tmp_path)


class TwoFacedServer(FakeServer):
    """Tells the truth to all but one hospital, in what `lie` answers."""

    def __init__(
        self, models: TwoModels, lie: Callable[[httpx.Request], httpx.Response | None]
    ) -> None:
        super().__init__()
        reader = models.federation.reader
        self.chain_id, self.ledger = reader.chain_id, reader.address
        self.rounds = {models.number: models.round}
        self.recipients = {models.number: reader.recipients(models.number)}
        for path in (models.base, models.other):
            self.models[str(blob_cid([path.read_bytes()]))] = path.read_bytes()
        self.victims: set[str] = set()
        self.lie = lie
        self._victim = models.federation.address(VICTIM)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.url.path == "/v1/auth/session" and self._victim in request.read().decode():
            self.victims.add(f"token-{self.sign_ins}")
        if request.headers.get("Authorization", "")[7:] in self.victims:
            return self.lie(request) or answer
        return answer


class EnoughError(Exception):
    """Ends a hospital's part once it has its base model."""


def before_training(step: str) -> None:
    if step == "training":
        raise EnoughError


READY = Listener(on_step=before_training)


def test_a_server_that_sends_one_hospital_another_model_is_found_out(models: TwoModels) -> None:
    def other_bytes(request: httpx.Request) -> httpx.Response | None:
        is_model = request.url.path.startswith("/v1/blobs/")
        return httpx.Response(200, content=models.other.read_bytes()) if is_model else None

    server = TwoFacedServer(models, other_bytes)
    with models.hospital(FAVOURED, server) as hospital, pytest.raises(EnoughError):
        take_part(hospital, models.number, READY)
    with models.hospital(VICTIM, server) as hospital:
        with pytest.raises(DigestMismatchError):
            take_part(hospital, models.number, READY)
        assert not list(hospital.folder.rglob("base.safetensors"))


def lying_about_the_round(models: TwoModels) -> TwoFacedServer:
    """Tell one hospital of another base model altogether, and of one blob that holds it."""

    def other_terms(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != f"/v1/rounds/{models.number}":
            return None
        told = FakeServer()
        told.chain_id, told.ledger = server.chain_id, server.ledger
        told.rounds = {models.number: models.other_round()}
        told.recipients = server.recipients
        return told._round(models.number)

    server = TwoFacedServer(models, other_terms)
    return server


def test_a_server_that_tells_one_hospital_of_another_round_is_found_out(
    models: TwoModels,
) -> None:
    server = lying_about_the_round(models)
    reader = models.federation.reader
    with models.hospital(FAVOURED, server, reader) as hospital, pytest.raises(EnoughError):
        take_part(hospital, models.number, READY)
    with (
        models.hospital(VICTIM, server, reader) as hospital,
        pytest.raises(VerificationError, match="the server tells other terms than the ledger has"),
    ):
        take_part(hospital, models.number, READY)


def test_the_ledger_refuses_what_was_trained_on_another_model(models: TwoModels) -> None:
    """A hospital without a view of the chain is deceived, and its update enters no model."""
    with models.hospital(VICTIM, lying_about_the_round(models)) as hospital:
        sent = take_part(hospital, models.number)
    assert sent.record.base_model == content_digest(models.other)
    with pytest.raises(ContractRevertedError) as refused:
        models.federation.ledgers["aggregator"].relay_update(sent.record, sent.signature)
    assert refused.value.name == "RoundLedgerBaseModelMismatch"


def test_an_ipfs_node_that_gives_one_reader_another_model_is_found_out(
    models: TwoModels, ipfs: str, tmp_path: Path
) -> None:
    terms = models.round.terms
    with IpfsBlobStore(ipfs) as honest:
        honest.put(models.base)
        honest.put(models.other)
        assert fetch_base_model(honest, terms, tmp_path).read_bytes() == models.base.read_bytes()
        other = blob_cid([models.other.read_bytes()])

        def answer(request: BaseHTTPRequestHandler, command: str, argument: str) -> None:
            wanted = Cid.from_blob_digest(terms.base_blob)
            cid = other if argument == str(wanted) else Cid.parse(argument)
            send(request, honest._get_block(cid) if command == "block/get" else b"{}")

        (tmp_path / "victim").mkdir()
        with hostile_ipfs(answer) as url, IpfsBlobStore(url) as lying:
            with pytest.raises(DigestMismatchError):
                fetch_base_model(lying, terms, tmp_path / "victim")
            assert not list((tmp_path / "victim").iterdir())
