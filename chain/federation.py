"""`federation.json`: where one federation is found, so that addresses need not be repeated."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from chain.canonical import parse_json
from chain.errors import InvalidInputError
from chain.files import replacing

FILE_NAME = "federation.json"
MAX_FILE = 16_384  # bytes


@dataclass(frozen=True, slots=True)
class Federation:
    """Where a federation is found; an empty string stands for what is not known.

    Attributes:
        chain_id: The chain's number (EIP-155); 0 where it is not known.
        ledger: The RoundLedger's address, which names the federation (protocol 1).
        image_access: The ImageAccess contract's address.
        rpc_url: An Ethereum endpoint's URL.
        ipfs: An IPFS node's RPC address, as multiaddr.
        api_url: The REST server's URL.
    """

    chain_id: int = 0
    ledger: str = ""
    image_access: str = ""
    rpc_url: str = ""
    ipfs: str = ""
    api_url: str = ""

    def to_dict(self) -> dict[str, int | str]:
        """Give the JSON form."""
        return asdict(self)

    def needs(self, *names: str) -> None:
        """Check that these addresses are known.

        Raises:
            InvalidInputError: Naming the option that would give the first one that is not.
        """
        for name in names:
            if not getattr(self, name):
                option = "--" + name.removesuffix("_url").replace("_", "-")
                message = f"the federation's {name} is not known: give {option} or --federation"
                raise InvalidInputError(message)


def write_federation(path: Path, federation: Federation) -> None:
    """Write a federation's addresses; the file holds no secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps(federation.to_dict(), indent=2).encode() + b"\n")


def read_federation(path: Path) -> Federation:
    """Read a federation's addresses.

    Raises:
        InvalidInputError: If the file is missing or is not of this form.
    """
    try:
        with path.open("rb") as file:
            content = parse_json(file.read(MAX_FILE + 1), MAX_FILE)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}. Start a federation, or give its file"
        raise InvalidInputError(message) from error
    types = {field.name: field.type for field in fields(Federation)}
    if not isinstance(content, dict) or not content.keys() <= types.keys():
        message = f"{path}: expected an object with {', '.join(types)}"
        raise InvalidInputError(message)
    for name, value in content.items():
        if type(value) is not types[name]:
            message = f"{path}: expected {name} as {types[name]}, found {value!r}"
            raise InvalidInputError(message)
    return Federation(**content)
