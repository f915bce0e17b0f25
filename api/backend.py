"""What the routes work with: one of each, made at start and shared by all requests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.bundle_cache import BundleCache
from api.freshness import Freshness
from api.metrics import Metrics
from api.models import ModelBlobs
from api.probe import Probe
from api.settings import Settings
from api.spool import Spool
from api.worker import Worker
from chain.blob_store import BlobStore
from chain.reader import LedgerReader
from chain.sessions import RateLimit, Tickets


@dataclass(frozen=True, slots=True)
class Backend:
    """The server's parts.

    Attributes:
        settings: What the server was told at start.
        clock: Unix seconds.
        ledger: The chain.
        blobs: IPFS.
        index: The SQL index of the chain.
        probe: Whether the others answer.
        spool: Uploads on their way.
        models: Which blobs are models.
        bundles: Audit bundles that were made.
        nonces: Outstanding sign-in nonces.
        sessions: Who is signed in.
        sign_ins: How often each client asks to sign in.
        bundle_requests: How often each client asks for a bundle.
        metrics: What is counted.
        storer: The thread that stores complete uploads.
        handing_over: Hospitals that are handing looks over at this moment.
    """

    settings: Settings
    clock: Callable[[], float]
    ledger: LedgerReader
    blobs: BlobStore
    index: Freshness
    probe: Probe
    spool: Spool
    models: ModelBlobs
    bundles: BundleCache
    nonces: Tickets
    sessions: Tickets
    sign_ins: RateLimit
    bundle_requests: RateLimit
    metrics: Metrics
    storer: Worker
    handing_over: set[str]


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


Server = Annotated[Backend, Depends(_backend)]
