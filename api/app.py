"""The application: all routes, what they work with, and the threads behind them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import (
    auth,
    blobs,
    bundles,
    exports,
    grants,
    health,
    images,
    looks,
    problems,
    provenance,
    questions,
    readings,
    rounds,
    uploads,
)
from api.backend import Backend
from api.bundle_cache import BundleCache
from api.explorer import assets, data_room, private, public
from api.explorer.errors import error_page
from api.freshness import Freshness
from api.guard import Guard
from api.metrics import Metrics
from api.models import ModelBlobs
from api.probe import Probe
from api.recorder import Recorder
from api.schemas import ProblemAnswer
from api.settings import Settings
from api.spool import Quota, Spool
from api.storer import Storer
from api.worker import Worker
from chain.blob_store import BlobStore
from chain.blobs import IpfsBlobStore
from chain.keystore import load_identity, read_password
from chain.ledger import Ledger
from chain.sessions import RateLimit, new_nonces, new_sessions

VERSION = "1"
_ROOMS = (
    auth,
    rounds,
    blobs,
    bundles,
    uploads,
    provenance,
    questions,
    images,
    readings,
    looks,
    exports,
    grants,
    health,
)
STOP_SECONDS = 5.0

_DESCRIPTION = """
Federated learning that anyone can verify: hospitals upload sealed updates here, auditors trace
models back to data, researchers ask what they may see. Whatever this server says can be checked
against the ledger. Sign in with Ethereum (EIP-4361), then send the session's token as a Bearer
token. Every error is a problem of RFC 9457.
"""


def create_app(settings: Settings) -> FastAPI:
    """Build the application for a federation, with the relayer's key from the keystore.

    Raises:
        KeystoreError: If the relayer's key cannot be opened.
        InvalidInputError: If an address in the settings is malformed.
    """
    password = read_password(settings.password_file, "Password of the relayer's keystore: ")
    identity = load_identity(settings.keystore, settings.relayer, password)
    ledger = Ledger(
        settings.rpc_url,
        settings.ledger,
        identity.account,
        settings.spool / "outbox",
        settings.image_access,
    )
    return build_app(settings, ledger, IpfsBlobStore(settings.ipfs))


def build_app(
    settings: Settings,
    ledger: Ledger,
    blob_store: BlobStore,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """Build the application around a ledger and a blob store.

    Args:
        settings: Limits and folders.
        ledger: The chain, with the relayer's account.
        blob_store: IPFS.
        clock: Unix seconds.
    """
    metrics = Metrics()
    quota = Quota(
        settings.hospital_quota_uploads,
        settings.hospital_quota_bytes,
        settings.spool_reserve_bytes,
    )
    spool = Spool(settings.spool / "uploads", quota)
    index = Freshness(settings.index_url, ledger, metrics)
    recorder = Recorder(spool, ledger, metrics)
    pause = settings.poll_seconds
    recording = Worker("recorder", recorder.step, pause)
    storing = Worker("storer", Storer(spool, blob_store, metrics, recording.wake).step, pause)
    workers = (
        recording,
        storing,
        Worker("expiry", recorder.expire, 10 * pause),
        Worker("index", index.step, pause),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for worker in workers:
            worker.start()
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            ended = [worker.has_ended(STOP_SECONDS) for worker in workers]
            if all(ended):
                spool.close()
                index.close()

    app = FastAPI(
        title="FedWitness",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        responses={"default": _PROBLEM},
    )
    app.state.backend = Backend(
        settings=settings,
        clock=clock,
        ledger=ledger,
        blobs=blob_store,
        index=index,
        probe=Probe(ledger, blob_store, index, settings.max_index_lag_blocks),
        spool=spool,
        models=ModelBlobs(ledger),
        bundles=BundleCache(settings.spool / "bundles", settings.bundle_cache_bytes),
        nonces=new_nonces(clock),
        sessions=new_sessions(clock),
        sign_ins=RateLimit(settings.sign_ins_per_minute, clock),
        bundle_requests=RateLimit(settings.bundles_per_minute, clock),
        metrics=metrics,
        storer=storing,
        handing_over=set(),
    )
    for room in _ROOMS:
        app.include_router(room.router)
    for pages in (public, private, data_room, assets):
        app.include_router(pages.router)
    auth.require_declared_roles(app)
    problems.install(app, error_page)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    return app


_PROBLEM = {
    "description": "A problem, as RFC 9457 has it",
    "content": {problems.MEDIA_TYPE: {"schema": ProblemAnswer.model_json_schema()}},
}
