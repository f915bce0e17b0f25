"""Whatever a contract reverts with arrives by name, with its arguments by parameter name."""

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import CONTRACTS, contract_abi, decode_error, decode_event, encode_call, signature
from chain.digests import keccak
from chain.errors import ContractRevertedError, InvalidInputError, LedgerError
from chain.reverts import decode

ERRORS = [
    entry for contract in CONTRACTS for entry in contract_abi(contract) if entry["type"] == "error"
]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "address": st.binary(min_size=20, max_size=20).map(lambda raw: f"0x{raw.hex()}"),
    "string": st.text(max_size=40),
    "bytes32": st.binary(min_size=32, max_size=32),
    "uint256": st.integers(0, 2**256 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint8": st.integers(0, 2**8 - 1),
}


def reverted_with(name: str, *types_and_values: tuple[str, object]) -> bytes:
    types = [kind for kind, _ in types_and_values]
    selector = keccak(f"{name}({','.join(types)})".encode())[:4]
    return selector + encode(types, [value for _, value in types_and_values])


@pytest.mark.parametrize("entry", ERRORS, ids=lambda entry: str(entry["name"]))
@given(data=st.data())
def test_every_error_of_the_contracts_is_decoded(
    entry: dict[str, Any], data: st.DataObject
) -> None:
    kinds = [parameter["type"] for parameter in entry["inputs"]]
    values = [data.draw(VALUES[kind]) for kind in kinds]
    raw = keccak(signature(entry).encode())[:4] + encode(kinds, values)
    error = decode(raw)
    assert error.name == entry["name"]
    assert list(error.arguments) == [parameter["name"] for parameter in entry["inputs"]]
    for found, value in zip(error.arguments.values(), values, strict=True):
        assert found == (f"0x{value.hex()}" if isinstance(value, bytes) else found)
        assert str(found).lower() == str(value).lower() or isinstance(value, bytes)


def test_solidity_s_own_errors_are_decoded() -> None:
    told = decode(reverted_with("Error", ("string", "no such luck")))
    assert (told.name, told.arguments) == ("Error", {"reason": "no such luck"})
    panic = decode(reverted_with("Panic", ("uint256", 0x11)))
    assert (panic.name, panic.arguments) == ("Panic", {"code": 0x11})


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xde\xad\xbe\xef", bytes(100)])
def test_an_unknown_error_keeps_its_bytes(data: bytes) -> None:
    error = decode(data)
    assert isinstance(error, ContractRevertedError)
    assert (error.name, error.arguments) == ("Unknown", {"data": f"0x{data.hex()}"})


def test_a_known_error_with_too_few_bytes_is_unknown() -> None:
    whole = reverted_with("RoundLedgerUnknownRound", ("uint256", 7))
    assert decode(whole).arguments == {"round": 7}
    assert decode_error(whole[:-1]) is None
    assert decode(whole[:-1]).name == "Unknown"


def test_a_string_that_is_no_utf_8_can_still_be_read() -> None:
    raw = reverted_with("Error", ("bytes", b"\xff\xfe name"))
    selector = keccak(b"Error(string)")[:4]
    assert decode(selector + raw[4:]).arguments == {"reason": "\\xff\\xfe name"}


@pytest.mark.parametrize(
    "values", [(bytes(31),), (bytes(33),), ("text",), (7,), ()], ids=lambda values: str(values)[:12]
)
def test_a_value_that_does_not_fit_its_parameter_is_refused(values: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"RoundLedger\.lastFinal"):
        encode_call("RoundLedger", "lastFinal", *values)


def test_a_number_out_of_its_range_is_refused() -> None:
    for number in (-1, 2**256):
        with pytest.raises(InvalidInputError, match=r"RoundLedger\.roundOf"):
            encode_call("RoundLedger", "roundOf", number)


def test_a_log_of_another_contract_is_refused() -> None:
    with pytest.raises(LedgerError, match="no event"):
        decode_event("RoundLedger", [keccak(b"Transfer(address,address,uint256)")], b"")
    with pytest.raises(LedgerError, match="no event"):
        decode_event("RoundLedger", [], b"")
