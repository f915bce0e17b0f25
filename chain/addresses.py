"""Ethereum addresses as text: read, brought into one form, put in order (EIP-55)."""

from eth_utils.address import is_checksum_address, to_checksum_address

from chain.errors import InvalidInputError


def checked_address(text: str) -> str:
    """Write an address, whatever the case of its letters, as EIP-55 does.

    Raises:
        InvalidInputError: If it is no address.
    """
    try:
        return str(to_checksum_address(text))
    except (ValueError, TypeError) as error:
        raise InvalidInputError(
            f"expected an address of 0x and 40 hexadecimal digits, found {text!r:.80}"
        ) from error


def read_address(text: object, name: str = "address") -> str:
    """Take an address that somebody else wrote, in the one form that the wire has.

    Raises:
        InvalidInputError: If it is not checksummed (EIP-55); the message begins with ``name``.
    """
    if not isinstance(text, str) or not is_checksum_address(text):
        found = repr(text)[:100]
        raise InvalidInputError(f"{name}: expected a checksummed address (EIP-55), found {found}")
    return text


def address_order(address: str) -> str:
    """Return the key that orders addresses by value; their capitals are only a checksum."""
    return address.lower()
