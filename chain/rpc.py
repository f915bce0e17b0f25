"""One chain's JSON-RPC interface: the only module that uses web3.

Every failure leaves as a `LedgerError` that names the chain by its host, never by the
credentials that its URL may hold.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import requests
import urllib3
from eth_typing import ChecksumAddress, HexStr
from eth_utils.hexadecimal import decode_hex
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.exceptions import (
    ContractLogicError,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import BlockIdentifier, FilterParams, RPCEndpoint, TxParams, Wei

from chain import reverts
from chain.errors import InvalidInputError, LedgerError, LongAnswerError, RefusedRequestError

TIMEOUT_SECONDS = 30.0
MAX_BLOCKS_PER_QUERY = 50_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024

_PIECE = 1 << 16  # bytes
# What nodes say to a transaction that they have: "already known", "transaction already imported",
# "AlreadyKnown", "Known transaction".
_KNOWN_ALREADY = ("already", "known transaction")
_LOOPBACK = "localhost,127.0.0.1,::1"


@dataclass(frozen=True, slots=True)
class Head:
    """A block: its number, its hash and its Unix time in seconds."""

    number: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class RawLog:
    """A log as the chain keeps it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    log_index: int
    transaction: bytes
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class RawReceipt:
    """What became of a transaction."""

    transaction: bytes
    block: int
    succeeded: bool
    gas_used: int
    contract: str | None
    logs: tuple[RawLog, ...]


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers for a unit of gas (EIP-1559), in wei."""

    max_fee: int
    priority_fee: int


class _BoundedAdapter(requests.adapters.HTTPAdapter):
    """Reads answers whole, as requests does, but gives up on endless or too slow ones."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def send(
        self, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        response = super().send(request, *args, **{**options, "stream": True})
        try:
            response._content = self._read(response.raw)  # noqa: SLF001 - where requests keeps it
        finally:
            response.close()
        return response

    def _read(self, body: urllib3.HTTPResponse) -> bytes:
        deadline, content = time.monotonic() + self._seconds, bytearray()
        try:
            while piece := body.read1(_PIECE, decode_content=True):
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    told = f"the chain answered with more than {MAX_ANSWER_BYTES} bytes"
                    raise LongAnswerError(told)
                if time.monotonic() > deadline:
                    raise requests.Timeout("the answer comes too slowly")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.Timeout(str(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(str(error)) from error
        return bytes(content)


class Rpc:
    """A chain, by the URL of its JSON-RPC interface. Making one sends nothing yet.

    Args:
        rpc_url: HTTP or HTTPS URL. It may hold credentials; no message repeats them.
        timeout: Seconds that one request may take.

    Raises:
        InvalidInputError: If the URL is no HTTP URL.
    """

    def __init__(self, rpc_url: str, timeout: float = TIMEOUT_SECONDS) -> None:
        self.name = public_name(rpc_url)
        # A proxy from the environment must not come between this machine and itself.
        request = {"timeout": timeout, "proxies": {"no_proxy": _LOOPBACK}}
        provider = HTTPProvider(
            rpc_url, request, session=_bounded_session(timeout), exception_retry_configuration=None
        )
        # Without web3's middleware, which looks names up and asks for the chain at each call.
        self._eth = Web3(provider, middleware=()).eth
        self._chain_id: int | None = None
        self._blocks_per_query = MAX_BLOCKS_PER_QUERY

    @property
    def chain_id(self) -> int:
        """The chain's number (EIP-155)."""
        if self._chain_id is None:
            with self._asking():
                self._chain_id = int(self._eth.chain_id)
        return self._chain_id

    def block(self, number: BlockIdentifier = "latest") -> Head:
        """Look a block up.

        Raises:
            LedgerError: If the chain has no such block or cannot be reached.
        """
        with self._asking():
            block = self._eth.get_block(number)
            return Head(block["number"], bytes(block["hash"]), block["timestamp"])

    def raw_block(self, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Look a block and all of its receipts up, just as the chain's node tells them.

        Raises:
            LedgerError: If the chain has no such block or cannot be reached.
        """
        with self._asking():
            block = self._request("eth_getBlockByNumber", hex(number), False)
        if not isinstance(block, dict):
            raise LedgerError(f"the chain at {self.name} has no block {number}")
        try:
            with self._asking():
                receipts = self._request("eth_getBlockReceipts", block["hash"])
        except RefusedRequestError:
            # Older nodes tell receipts one by one.
            with self._asking():
                hashes = list(block["transactions"])
                receipts = [self._request("eth_getTransactionReceipt", one) for one in hashes]
        if not isinstance(receipts, list) or not all(isinstance(one, dict) for one in receipts):
            raise LedgerError(f"the chain at {self.name} has no receipts of block {number}")
        return block, receipts

    def pending_timestamp(self) -> int:
        """Ask for the time of the block in the making; unlike a block, it need not have a hash."""
        with self._asking():
            return int(self._eth.get_block("pending")["timestamp"])

    def call(
        self,
        to: str | None,
        data: bytes,
        *,
        sender: str | None = None,
        block: BlockIdentifier = "latest",
    ) -> bytes:
        """Run a call without recording it (``eth_call``).

        Args:
            to: The contract, None to try a deployment.
            data: The encoded call.
            sender: Who seems to call, nobody in particular where None.
            block: The state to run it on; ``pending`` has the time that the next block will have.

        Raises:
            ContractRevertedError: If the contract refuses.
            LedgerError: If the chain cannot be reached.
        """
        with self._asking():
            return bytes(self._eth.call(_transaction(to, data, sender), block))

    def has_code(self, address: str) -> bool:
        """Tell whether a contract lies at this address."""
        with self._asking():
            return bool(self._eth.get_code(cast("ChecksumAddress", address)))

    def logs(
        self,
        addresses: Sequence[str],
        topics: Sequence[bytes | None],
        from_block: int,
        to_block: int,
    ) -> Iterator[RawLog]:
        """Yield logs in the order of the chain.

        Nodes refuse to look through too many blocks at once, each beyond a number of its own:
        the range is halved until this one is content.

        Args:
            addresses: The contracts whose logs are wanted.
            topics: What each topic must be; None lets any pass.
            from_block: First block.
            to_block: Last block, inclusive.
        """
        first = from_block
        while first <= to_block:
            last = min(first + self._blocks_per_query - 1, to_block)
            try:
                found = self._logs(addresses, topics, first, last)
            except (RefusedRequestError, LongAnswerError):
                if last == first:
                    raise
                self._blocks_per_query = (last - first + 1) // 2
                continue
            yield from sorted(found, key=lambda log: (log.block, log.log_index))
            first = last + 1

    def transaction_count(self, address: str, block: BlockIdentifier) -> int:
        """Count an account's transactions: its next nonce."""
        with self._asking():
            return int(self._eth.get_transaction_count(cast("ChecksumAddress", address), block))

    def estimate_gas(self, sender: str, to: str | None, data: bytes) -> int:
        """Estimate the gas of a call on the pending state.

        Raises:
            ContractRevertedError: If the contract refuses.
            LedgerError: If the chain cannot be reached or the account has not the funds.
        """
        with self._asking():
            return int(self._eth.estimate_gas(_transaction(to, data, sender), "pending"))

    def fees(self) -> Fees:
        """Offer the node's suggested tip and twice the present base fee.

        Twice the base fee lasts for at least five full blocks (EIP-1559: each raises it by at
        most one eighth).
        """
        with self._asking():
            tip = int(self._eth.max_priority_fee)
            base = int(self._eth.get_block("latest").get("baseFeePerGas", Wei(0)))
        return Fees(2 * base + tip, tip)

    def send(self, raw: bytes) -> None:
        """Hand a signed transaction to the chain; one that it already knows is fine.

        Raises:
            RefusedRequestError: If the node does not take it.
            LedgerError: If the chain cannot be reached; it may have the transaction or not.
        """
        try:
            with self._asking():
                self._eth.send_raw_transaction(HexBytes(raw))
        except RefusedRequestError as error:
            if not any(word in str(error).lower() for word in _KNOWN_ALREADY):
                raise

    def knows(self, transaction: bytes) -> bool:
        """Tell whether the chain has a transaction, mined or waiting."""
        with self._asking():
            try:
                self._eth.get_transaction(HexBytes(transaction))
            except TransactionNotFound:
                return False
            return True

    def receipt(self, transaction: bytes) -> RawReceipt | None:
        """Look up what became of a transaction, None where it is in no block."""
        with self._asking():
            try:
                return _raw_receipt(self._eth.get_transaction_receipt(HexBytes(transaction)))
            except TransactionNotFound:
                return None

    def _request(self, method: str, *params: object) -> Any:
        """Ask in JSON-RPC's own words, and give the answer as it came."""
        return self._eth.w3.manager.request_blocking(cast("RPCEndpoint", method), params)

    def _logs(
        self, addresses: Sequence[str], topics: Sequence[bytes | None], first: int, last: int
    ) -> list[RawLog]:
        query: FilterParams = {
            "address": [cast("ChecksumAddress", address) for address in addresses],
            "topics": [_hex(topic) if topic is not None else None for topic in topics],
            "fromBlock": first,
            "toBlock": last,
        }
        with self._asking():
            return [_raw_log(log) for log in self._eth.get_logs(query)]

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except ContractLogicError as error:
            raise reverts.decode(_revert_data(error)) from error
        except Web3RPCError as error:
            raise RefusedRequestError(
                f"the chain at {self.name} refused: {_told(error)}"
            ) from error
        # The causes below repeat the URL with its credentials.
        except requests.Timeout:
            told = f"the chain at {self.name} took too long to answer; try again"
            raise LedgerError(told) from None
        except (requests.RequestException, OSError) as error:
            raise LedgerError(
                f"no chain answers at {self.name} ({type(error).__name__}): "
                "is the address right and the network up?"
            ) from None
        except (Web3Exception, ValueError, LookupError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"{self.name} gave an answer that is not Ethereum's ({type(error).__name__}): "
                "is this the address of a JSON-RPC interface?"
            ) from None


def public_name(rpc_url: str) -> str:
    """Name a JSON-RPC URL without user, password, path and query, any of which may be secret.

    Raises:
        InvalidInputError: If it is no HTTP URL.
    """
    try:
        parts = urlsplit(rpc_url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInputError(
            "the chain's address must be an http or https URL such as http://127.0.0.1:8545"
        )
    return f"{parts.scheme}://{parts.hostname}{port}"


def _bounded_session(seconds: float) -> requests.Session:
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter(seconds))
    return session


def _transaction(to: str | None, data: bytes, sender: str | None) -> TxParams:
    transaction: TxParams = {"data": HexBytes(data)}
    if to is not None:
        transaction["to"] = cast("ChecksumAddress", to)
    if sender is not None:
        transaction["from"] = cast("ChecksumAddress", sender)
    return transaction


def _raw_receipt(found: Any) -> RawReceipt:
    return RawReceipt(
        transaction=bytes(found["transactionHash"]),
        block=found["blockNumber"],
        succeeded=found["status"] == 1,
        gas_used=found["gasUsed"],
        contract=found["contractAddress"],
        logs=tuple(_raw_log(log) for log in found["logs"]),
    )


def _raw_log(log: Any) -> RawLog:
    return RawLog(
        address=log["address"],
        topics=tuple(bytes(topic) for topic in log["topics"]),
        data=bytes(log["data"]),
        block=log["blockNumber"],
        log_index=log["logIndex"],
        transaction=bytes(log["transactionHash"]),
        block_hash=bytes(log["blockHash"]),
    )


def _revert_data(error: ContractLogicError) -> bytes:
    data: object = error.data
    if isinstance(data, dict):
        data = data.get("data")
    try:
        return decode_hex(str(data).removeprefix("Reverted "))
    except ValueError:
        return b""


def _told(error: Web3RPCError) -> str:
    answer = error.rpc_response or {}
    told = answer.get("error")
    return str(told.get("message", told) if isinstance(told, dict) else told or error)


def _hex(topic: bytes) -> HexStr:
    return HexStr(f"0x{topic.hex()}")
