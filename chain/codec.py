"""What is said to the contracts and what they answer, as bytes: the Solidity contract ABI.

Calls are encoded; results, events and errors are decoded with the names of their parameters.
Nothing here speaks to a chain.

Decoded values: integers are ``int``, ``bytesN`` is ``bytes``, addresses are EIP-55, structs are
dictionaries by member, arrays are tuples.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from eth_abi.codec import ABICodec
from eth_abi.decoding import StringDecoder
from eth_abi.encoding import BytesEncoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals, registry
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import to_checksum_address

from chain.digests import keccak
from chain.errors import InvalidInputError, LedgerError

CONTRACTS = (
    "ParticipantRegistry",
    "DatasetRegistry",
    "RoundLedger",
    "ImageAccess",
    "AccessLogs",
    "Readings",
)

Abi = Sequence[Mapping[str, Any]]

SELECTOR_BYTES = 4

_BAD_UTF8 = "backslashreplace"


@functools.cache
def contract_abi(contract: str) -> Abi:
    """Read the ABI of one of the contracts."""
    text = resources.files("chain").joinpath("abi", f"{contract}.json").read_text()
    abi: Abi = json.loads(text)
    return abi


@functools.cache
def function_of(contract: str, name: str) -> Mapping[str, Any]:
    """Find a function in a contract's ABI."""
    return next(
        entry
        for entry in contract_abi(contract)
        if entry["type"] == "function" and entry["name"] == name
    )


@functools.cache
def event_of(contract: str, name: str) -> Mapping[str, Any]:
    """Find an event in a contract's ABI."""
    return next(
        entry
        for entry in contract_abi(contract)
        if entry["type"] == "event" and entry["name"] == name
    )


@functools.cache
def events_by_topic(contract: str) -> Mapping[bytes, Mapping[str, Any]]:
    """Map the first topic of each event of a contract to its ABI entry."""
    return {
        keccak(signature(entry).encode()): entry
        for entry in contract_abi(contract)
        if entry["type"] == "event"
    }


def topic_of(contract: str, event: str) -> bytes:
    """Compute the first topic of an event's logs: the Keccak-256 of its signature."""
    return keccak(signature(event_of(contract, event)).encode())


def signature(entry: Mapping[str, Any]) -> str:
    """Write a function, event or error as Solidity does, such as ``attest(uint256,bytes)``."""
    return f"{entry['name']}({','.join(_types(entry['inputs']))})"


def encode_call(contract: str, function: str, *values: object) -> bytes:
    """Encode a call.

    Args:
        contract: One of `CONTRACTS`.
        function: The function's name.
        values: Its arguments in order; structs are tuples.

    Raises:
        InvalidInputError: If a value does not fit its parameter's type.
    """
    entry = function_of(contract, function)
    selector = keccak(signature(entry).encode())[:SELECTOR_BYTES]
    return selector + encode_values(f"{contract}.{function}", entry["inputs"], values)


def encode_values(what: str, inputs: Abi, values: Sequence[object]) -> bytes:
    """Encode the arguments of a function or constructor.

    Raises:
        InvalidInputError: If a value does not fit its parameter's type.
    """
    try:
        return _CODEC.encode(_types(inputs), values)
    except (EncodingError, UnicodeEncodeError) as error:
        raise InvalidInputError(f"{what} does not take these values: {error}") from error


def decode_result(contract: str, function: str, data: bytes) -> tuple[Any, ...]:
    """Decode what a call returned, one value for each return parameter.

    Raises:
        LedgerError: If the bytes are no such result.
    """
    outputs = function_of(contract, function)["outputs"]
    return tuple(_decode(f"{contract}.{function}", outputs, data).values())


def decode_event(contract: str, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]]:
    """Decode a log into the event's name and its arguments by name.

    Raises:
        LedgerError: If the contract has no such event, or the bytes do not fit it.
    """
    entry = events_by_topic(contract).get(topics[0]) if topics else None
    if entry is None:
        raise LedgerError(f"{contract} has no event with the topics {[t.hex() for t in topics]}")
    what = f"{contract}.{entry['name']}"
    indexed = [parameter for parameter in entry["inputs"] if parameter["indexed"]]
    plain = [parameter for parameter in entry["inputs"] if not parameter["indexed"]]
    values = _decode(what, indexed, b"".join(topics[1:])) | _decode(what, plain, data)
    return entry["name"], {name: values[name] for name in _names(entry)}


def decode_error(data: bytes) -> tuple[str, dict[str, Any]] | None:
    """Decode revert data into the error's name and its arguments by name.

    Knows the custom errors of the contracts, whichever of them raised it, and Solidity's
    own ``Error(string)`` and ``Panic(uint256)``.

    Returns:
        None where the data is no error that we know.
    """
    entry = _errors_by_selector().get(data[:SELECTOR_BYTES])
    if entry is None:
        return None
    try:
        return entry["name"], _decode(entry["name"], entry["inputs"], data[SELECTOR_BYTES:])
    except LedgerError:
        return None


@functools.cache
def _errors_by_selector() -> Mapping[bytes, Mapping[str, Any]]:
    return {keccak(signature(entry).encode())[:SELECTOR_BYTES]: entry for entry in _errors()}


def _errors() -> Iterator[Mapping[str, Any]]:
    yield {"name": "Error", "inputs": [{"name": "reason", "type": "string"}]}
    yield {"name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]}
    for contract in CONTRACTS:
        yield from (entry for entry in contract_abi(contract) if entry["type"] == "error")


def _decode(what: str, parameters: Abi, data: bytes) -> dict[str, Any]:
    try:
        values = _CODEC.decode(_types(parameters), data)
    except DecodingError as error:
        raise LedgerError(
            f"{what} came back as bytes that do not fit its ABI: {error}. "
            "Is this address a FedWitness contract of this version?"
        ) from error
    return {
        parameter["name"] or str(index): _named(parameter, parameter["type"], value)
        for index, (parameter, value) in enumerate(zip(parameters, values, strict=True))
    }


def _named(parameter: Mapping[str, Any], kind: str, value: Any) -> Any:
    if kind.endswith("]"):
        inner = kind[: kind.rindex("[")]
        return tuple(_named(parameter, inner, item) for item in value)
    if kind == "tuple":
        return {
            member["name"]: _named(member, member["type"], item)
            for member, item in zip(parameter["components"], value, strict=True)
        }
    return to_checksum_address(value) if kind == "address" else value


def _names(entry: Mapping[str, Any]) -> list[str]:
    return [parameter["name"] for parameter in entry["inputs"]]


def _types(parameters: Abi) -> list[str]:
    return [collapse_if_tuple(dict(parameter)) for parameter in parameters]


class _ExactBytesEncoder(BytesEncoder):
    """Refuses a ``bytesN`` of fewer than N bytes, which eth_abi would fill up with zeros."""

    def validate_value(self, value: object) -> None:
        super().validate_value(value)  # type: ignore[no-untyped-call]
        size = (self.value_bit_size or 0) // 8
        if isinstance(value, bytes) and len(value) != size:
            self.invalidate_value(value, msg=f"expected {size} bytes, found {len(value)}")


def _codec() -> ABICodec:
    kinds = registry.copy()  # type: ignore[no-untyped-call]
    kinds.unregister_encoder("bytes<M>")
    kinds.register_encoder(
        BaseEquals("bytes", with_sub=True),  # type: ignore[no-untyped-call]
        _ExactBytesEncoder,
        label="bytes<M>",
    )
    # Solidity does not check that a string is UTF-8: a party that registers other bytes must
    # not stop everyone else from reading the ledger.
    kinds.unregister_decoder("string")
    kinds.register_decoder(
        BaseEquals("string", with_sub=False),  # type: ignore[no-untyped-call]
        StringDecoder(_BAD_UTF8),  # type: ignore[no-untyped-call]
        label="string",
    )
    return ABICodec(kinds)


_CODEC = _codec()
