"""Where a model comes from, and what became of everything that the ledger holds."""

from fastapi import APIRouter

router = APIRouter(prefix="/v1", tags=["Provenance"])
