"""Blobs on IPFS: whatever a node hands over is checked against its CID (docs/protocol.md, 5)."""

import io
import json
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import ipfshttpclient  # type: ignore[import-untyped]
import urllib3
from ipfshttpclient import requests_wrapper as requests

from chain.blob_store import Source, read_chunks
from chain.cid import (
    MAX_BLOCK_BYTES,
    Cid,
    Link,
    blob_blocks,
    checked_leaf,
    leaves,
)
from chain.errors import BlobUnavailableError, DigestMismatchError, InvalidInputError
from chain.files import replacing

REQUEST_SECONDS = 20.0
# A node reads every block of a blob to pin it.
PIN_SECONDS = 300.0
CONCURRENT_REQUESTS = 4
# Blocks asked for and not yet used: with the one in hand, what a store holds in memory.
BLOCKS_AHEAD = 6
READ_BYTES = 256 * 1024

T = TypeVar("T")


class IpfsBlobStore:
    """Blobs on an IPFS node, reached by Kubo's RPC through ipfshttpclient.

    Safe to use from several threads.
    """

    def __init__(self, address: str, *, request_seconds: float = REQUEST_SECONDS) -> None:
        """Prepare to talk to a node; nothing is sent yet.

        Args:
            address: Multiaddr (`/ip4/127.0.0.1/tcp/5001/http`) or URL
                (`http://127.0.0.1:5001`) of the node's RPC.
            request_seconds: Time that one request for one block may take.

        Raises:
            InvalidInputError: If the address is neither.
        """
        self.address = address
        self._seconds = request_seconds
        self._client = _open_client(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the node."""
        self._client.close()

    def put(self, source: Source) -> Cid:
        """Store a blob block by block, check every answer, and pin the root recursively."""
        with _workers() as pool:
            blocks = blob_blocks(read_chunks(source))
            submitted = (pool.submit(self._put_block, cid, block) for cid, block in blocks)
            for stored in _ahead(submitted):
                cid = stored
        self._ask(cid, lambda options: self._client.pin.add(str(cid), **options), PIN_SECONDS)
        return cid

    def has(self, cid: Cid) -> bool:
        """Ask the node for the root block's size."""
        try:
            self._ask(cid, lambda options: self._client.block.stat(str(cid), **options))
        except BlobUnavailableError as error:
            if isinstance(error.__cause__, ipfshttpclient.exceptions.ErrorResponse):
                return False
            raise
        return True

    def stream(self, cid: Cid, max_bytes: int) -> Iterator[bytes]:
        """Walk the blob's tree, asking for a few leaves ahead of the one in use."""
        with _workers() as pool:
            links = leaves(cid, self._get_block, max_bytes)
            yield from _ahead(pool.submit(self._get_leaf, link) for link in links)

    def get(self, cid: Cid, max_bytes: int) -> bytes:
        """Return a whole blob."""
        return b"".join(self.stream(cid, max_bytes))

    def fetch(self, cid: Cid, path: Path, max_bytes: int) -> None:
        """Write a whole blob beside its place, then move it there."""
        with replacing(path) as file:
            file.writelines(self.stream(cid, max_bytes))

    def _put_block(self, cid: Cid, block: bytes) -> Cid:
        def send(options: dict[str, Any]) -> Any:
            options["opts"] |= {"cid-codec": cid.codec_name, "mhtype": "sha2-256"}
            return self._client.block.put(io.BytesIO(block), **options).as_json()["Key"]

        found = self._ask(cid, send)
        if found != str(cid):
            raise DigestMismatchError(
                f"block stored at the IPFS node at {self.address}", cid, str(found)[:64]
            )
        return cid

    def _get_block(self, cid: Cid) -> bytes:
        block = self._ask(cid, lambda options: self._client.block.get(str(cid), **options))
        return bytes(block)

    def _get_leaf(self, link: Link) -> bytes:
        return checked_leaf(link, self._get_block(link.cid))

    def _ask(
        self,
        cid: Cid,
        request: Callable[[dict[str, Any]], Any],
        seconds: float | None = None,
    ) -> Any:
        """Make one request in bounded time.

        Kubo looks for a missing block for ever, so the node is told to give up a little before
        this side does: then its own words tell what is missing.
        """
        seconds = seconds or self._seconds
        options = {"opts": {"timeout": f"{int(seconds * 900)}ms"}, "timeout": seconds}
        try:
            return request(options)
        except _REFUSALS as error:
            raise BlobUnavailableError(
                f"{cid} cannot be stored at or had from the IPFS node at {self.address} "
                f"({_words(error)}). Check that the node runs there and is connected to a node "
                "that holds the blob, then try again."
            ) from error


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """A few threads whose waiting work is dropped when their user stops early."""
    pool = ThreadPoolExecutor(CONCURRENT_REQUESTS, thread_name_prefix="blobs")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(futures: Iterable[Future[T]]) -> Iterator[T]:
    """Yield results in order while a few later ones are under way."""
    under_way: deque[Future[T]] = deque()
    for future in futures:
        under_way.append(future)
        if len(under_way) > BLOCKS_AHEAD:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


class _OverlongAnswerError(Exception):
    """An answer went on beyond its bound of bytes or time."""


_REFUSALS = (
    ipfshttpclient.exceptions.Error,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    _OverlongAnswerError,
    OSError,
    # What ipfshttpclient runs into when an answer is JSON of another shape than Kubo's.
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
)


class _BoundedAdapter(requests.HTTPAdapter):  # type: ignore[misc]
    """Reads every answer whole, within bounds of bytes and time, before the client sees it.

    ipfshttpclient itself would read answers and error messages of any length, and its timeout
    bounds each read but not their sum. No answer in use here is larger than a block.
    """

    def init_poolmanager(self, connections: int, maxsize: int, **options: Any) -> None:
        """Prepare connections; ipfshttpclient's own version passes what urllib3 2 warns of."""
        self.poolmanager = requests.PoolManager(num_pools=connections, maxsize=maxsize, **options)

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request and return the response with its body already read.

        Raises:
            _OverlongAnswerError: If the body is too long, takes too long or lies elsewhere.
        """
        deadline = time.monotonic() + float(options["timeout"])
        response = super().send(request, **(options | {"stream": True}))
        try:
            body = _read_bounded(response, deadline)
        except BaseException:
            response.close()
            raise
        response.raw.release_conn()
        response._content = body  # noqa: SLF001 - requests has no public way to set a body
        response._content_consumed = True  # noqa: SLF001
        return response


def _read_bounded(response: Any, deadline: float) -> bytes:
    if response.is_redirect:
        raise _OverlongAnswerError("it answered with a redirection, which is not followed")
    body = bytearray()
    while piece := response.raw.read1(READ_BYTES, decode_content=False):
        body += piece
        if len(body) > MAX_BLOCK_BYTES:
            raise _OverlongAnswerError(f"it answered with more than {MAX_BLOCK_BYTES} bytes")
        if time.monotonic() > deadline:
            raise _OverlongAnswerError("its answer took too long")
    return bytes(body)


def _open_client(address: str) -> Any:
    """Return an ipfshttpclient without its check of the node's version, which ends at 0.8."""
    try:
        client = ipfshttpclient.Client(
            _multiaddr(address), chunk_size=MAX_BLOCK_BYTES, session=True
        )
    except (ipfshttpclient.exceptions.Error, ValueError) as error:
        raise InvalidInputError(
            "expected the address of an IPFS node's RPC, such as /ip4/127.0.0.1/tcp/5001/http or "
            f"http://127.0.0.1:5001, found {address[:200]!r}"
        ) from error
    session = client._client._session  # noqa: SLF001 - the only way to bound what it reads
    session.trust_env = False  # a proxy or .netrc of the environment is not meant for this node
    session.headers["Accept-Encoding"] = "identity"
    adapter = _BoundedAdapter()
    for scheme in list(session.adapters):
        session.mount(scheme, adapter)
    return client


def _multiaddr(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        return address
    url = urllib.parse.urlsplit(address)
    if url.hostname is None or url.username is not None or url.path.strip("/") or url.query:
        raise ValueError("expected scheme, host and port alone")
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    return f"/{_host_protocol(url.hostname)}/{url.hostname}/tcp/{port}/{url.scheme}"


def _host_protocol(host: str) -> str:
    if ":" in host:
        return "ip6"
    return "ip4" if host.replace(".", "").isdigit() else "dns"


def _words(error: Exception) -> str:
    """Return an error's message, bounded: parts of it are a stranger's."""
    return json.dumps(str(error), ensure_ascii=True)[1:301].rstrip('"')
