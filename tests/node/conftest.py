"""A hospital, its data, and a server with one open round."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_account import Account

from chain.cid import blob_cid
from chain.digests import content_digest
from chain.keystore import Identity
from chain.types import LogPosition, Phase, Round, RoundTerms
from node.attestation import attest
from node.client import RestClient
from node.dataset import commit_images
from node.hospital import Hospital
from node.images import ImageSet
from node.training import initial_model, schema_of
from tests.node.fake_server import CHAIN_ID, LEDGER, URL, FakeServer
from tests.node.gateway_room import Room, four_scans, opened, take_in

TASK = "pneumonia-2d"
RECIPIENT = X25519PrivateKey.from_private_bytes(b"\x05" * 32)


@pytest.fixture
def identity() -> Identity:
    return Identity(Account.from_key(b"\x01" * 32), b"\x02" * 32)


@pytest.fixture
def pauses() -> list[float]:
    """How long the client waited, instead of waiting."""
    return []


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    """A server with round 1 open, whose base model is a fresh one."""
    base = tmp_path / "server-model"
    digest = initial_model(TASK, 1, base)
    assert digest == content_digest(base)
    cid = blob_cid([base.read_bytes()])
    fake = FakeServer()
    fake.models[str(cid)] = base.read_bytes()
    fake.recipients[1] = (RECIPIENT.public_key().public_bytes_raw(),)
    fake.rounds[1] = Round(
        number=1,
        phase=Phase.OPEN,
        terms=RoundTerms(
            task=TASK,
            purpose=6,
            base_model=digest,
            base_blob=cid.digest,
            schema=schema_of(TASK).digest(),
            rule='[{"name":"fed_avg","params":{}}]',
            min_updates=1,
            max_updates=8,
            quorum=1,
            deadline=int(time.time()) + 3600,
            witnesses=(),
        ),
        aggregator=LEDGER,
        opened_at=LogPosition(1, 0, b"\x11" * 32),
        updates=0,
        attestations=0,
        disputed=False,
        proposal=None,
    )
    return fake


@pytest.fixture
def client(server: FakeServer, identity: Identity, pauses: list[float]) -> Iterator[RestClient]:
    with RestClient(
        URL, identity, CHAIN_ID, LEDGER, transport=server, pause=pauses.append
    ) as session:
        yield session


@pytest.fixture
def hospital(tmp_path: Path, identity: Identity, client: RestClient) -> Hospital:
    rng = np.random.default_rng(0)
    images = ImageSet(
        images=rng.integers(0, 255, (6, 28, 28), dtype=np.uint8),
        labels=np.array([0, 1, 0, 1, 0, 1]),
        modality="DX",
        sources=tuple("abcdef"),
        attestation=attest({"images": 6}),
    )
    dataset = commit_images(tmp_path / "chest.npz", "chest", images, frozenset({6}))
    folder = tmp_path / "hospital"
    folder.mkdir()
    return Hospital(identity, folder, client, dataset, version=b"\x03" * 32)


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four scans in two studies, ingested; with the key."""
    return take_in(tmp_path_factory.mktemp("gateway"), four_scans())


@pytest.fixture
def room(ingested: tuple[Path, Path], tmp_path: Path) -> Iterator[Room]:
    """A gateway that shows them."""
    with opened(*ingested, tmp_path) as found:
        yield found
