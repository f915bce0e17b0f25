"""How well the consortium says that its models do.

Accuracy is measured on images that only the consortium has, so no ledger can prove it. A server
may be given a file of such figures; the pages show them as its operator's word.
"""

from dataclasses import dataclass
from pathlib import Path

from chain.canonical import parse_json
from chain.errors import InvalidInputError

MAX_BYTES = 1 << 20
_MEMBERS = {"accuracy", "round", "source"}


@dataclass(frozen=True, slots=True)
class Claim:
    """A model's accuracy, as its ``source`` tells it: a share from 0 to 1 of a round's test."""

    round: int
    accuracy: float
    source: str


def read_claims(path: Path) -> tuple[Claim, ...]:
    """Read a file of JSON lines ``{"round": 3, "accuracy": 0.89, "source": "…"}``.

    Args:
        path: The file, at most 1 MiB.

    Returns:
        Its claims, ascending by round; of several on a round the last one.

    Raises:
        InvalidInputError: If it cannot be read or a line is anything else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            f"the file of accuracies cannot be read: {error.strerror}"
        ) from error
    if len(text) > MAX_BYTES:
        raise InvalidInputError(f"expected at most {MAX_BYTES} bytes of accuracies, found more")
    lines = (line for line in enumerate(text.splitlines(), 1) if line[1].strip())
    found = {claim.round: claim for claim in (_claim(number, line) for number, line in lines)}
    return tuple(found[number] for number in sorted(found))


def _claim(number: int, line: bytes) -> Claim:
    members = parse_json(line, MAX_BYTES)
    if not isinstance(members, dict) or members.keys() != _MEMBERS:
        raise InvalidInputError(f"line {number}: expected the members {sorted(_MEMBERS)}")
    of_round, accuracy, source = members["round"], members["accuracy"], members["source"]
    is_share = type(accuracy) in (int, float) and 0 <= accuracy <= 1
    if type(of_round) is not int or not is_share or not isinstance(source, str):
        raise InvalidInputError(f"line {number}: expected a round, a share of 1 and a source")
    return Claim(of_round, float(accuracy), source)
