"""The one place that turns a contract's refusal into an error of ours."""

from chain.codec import decode_error
from chain.errors import ContractRevertedError

UNKNOWN = "Unknown"


def decode(data: bytes) -> ContractRevertedError:
    """Decode what a contract reverted with.

    Args:
        data: Revert data: a 4-byte selector and the ABI-encoded arguments, or nothing.

    Returns:
        A `ContractRevertedError` with the error's name and its arguments by parameter name;
        bytes are written as ``0x`` hex. Data that is none of our contracts' errors makes one
        named ``Unknown`` whose argument ``data`` holds it.
    """
    decoded = decode_error(data)
    if decoded is None:
        return ContractRevertedError(UNKNOWN, {"data": _shown(data)})
    name, arguments = decoded
    return ContractRevertedError(name, {key: _shown(value) for key, value in arguments.items()})


def _shown(value: object) -> object:
    return f"0x{value.hex()}" if isinstance(value, bytes) else value
