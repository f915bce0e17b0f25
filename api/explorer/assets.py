"""The explorer's own style sheet, scripts and icons, read once at start."""

import gzip
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from fastapi import APIRouter, Depends, Request, Response

from api.auth import public
from api.problems import not_found

FOLDER = Path(__file__).parent / "static"
KINDS = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
    }
)

router = APIRouter(dependencies=[Depends(public)], include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is sent: as it is, or packed for those who take it so."""

    kind: str
    etag: str
    content: bytes
    packed: bytes


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    kind = KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or ""
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    return StaticFile(kind, etag, content, gzip.compress(content, mtime=0))


def read_files(folder: Path) -> Mapping[str, StaticFile]:
    """Read all files of the kinds that are served, by their path below the folder."""
    return MappingProxyType(
        {
            path.relative_to(folder).as_posix(): _read(path)
            for path in sorted(folder.rglob("*"))
            if path.suffix in KINDS and path.is_file()
        }
    )


# Only what was there at start can be asked for, so no path leads out of the folder.
_FILES = read_files(FOLDER)


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
def static_file(path: str, request: Request) -> Response:
    """Send a file; a browser that has it already is told that it has not changed."""
    found = _FILES.get(path)
    if found is None:
        raise not_found("file of this name")
    headers = {
        "ETag": found.etag,
        # Modules import each other by plain names: each is asked for anew, and seldom sent.
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
        "Content-Type": found.kind,
    }
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers=headers | {"Content-Encoding": "gzip"})
    return Response(found.content, headers=headers)
