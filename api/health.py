"""Is the server alive, can it work, and how much does it work."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.auth import public
from api.backend import Server
from api.problems import Problem
from api.schemas import Json

router = APIRouter(tags=["Operation"], dependencies=[Depends(public)])


@router.get(
    "/healthz",
    summary="Is the process alive?",
    responses={200: {"content": {"application/json": {"example": {"status": "alive"}}}}},
)
def alive() -> Json:
    """Answer as long as the process answers at all."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Can the server work?",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": {
                        "status": "ready",
                        "checks": {"chain": "ok", "ipfs": "ok", "index": "ok"},
                        "index_lag_blocks": 0,
                    }
                }
            }
        }
    },
)
def ready(server: Server) -> Json:
    """Answer 200 when chain and IPFS answer and the index is near the chain's head, else 503."""
    checks = server.probe.checks()
    if set(checks.values()) != {"ok"}:
        raise Problem(
            503,
            "not-ready",
            "The server cannot work now",
            "See which check failed; the server's log tells why.",
            headers={"Retry-After": "5"},
            checks=checks,
        )
    return {"status": "ready", "checks": checks, "index_lag_blocks": server.index.lag}


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"example": 'fedwitness_api_uploads_finished_total{state="recorded"}'}
            }
        }
    },
)
def metrics(server: Server) -> Response:
    """Write all figures in Prometheus' text format."""
    return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)
