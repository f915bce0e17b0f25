"""Random choices that everyone who replays a round makes alike (docs/protocol.md, section 9.3)."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import count

_TAG = b"fedwitness.draws.v1"
_WORD = 1 << 64


class Draws:
    """A stream of random integers that follows from a step's name and the updates it is for.

    No hospital knows it before the last update is in, and none can choose it without trying.

    Args:
        step: What the integers are for; each step has a stream of its own.
        contents: Content digests of the updates, in the round's order.
    """

    def __init__(self, step: str, contents: Sequence[bytes]) -> None:
        self.seed = sha256(_TAG + step.encode() + b"\0" + b"".join(contents)).digest()
        self._words = (
            int.from_bytes(sha256(self.seed + number.to_bytes(8, "big")).digest()[:8], "big")
            for number in count()
        )

    def word(self) -> int:
        """Draw an integer below 2^64."""
        return next(self._words)

    def below(self, bound: int) -> int:
        """Draw an integer from 0 to ``bound`` - 1, each as likely as the others."""
        limit = _WORD - _WORD % bound
        return next(word for word in self._words if word < limit) % bound

    def permutation(self, n: int) -> list[int]:
        """Draw an order of 0 to ``n`` - 1 (Fisher and Yates; Knuth, volume 2, algorithm 3.4.2P)."""
        order = list(range(n))
        for last in range(n - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def distinct(self, size: int, bound: int) -> list[int]:
        """Draw ``size`` different integers below ``bound``, ascending, or all if fewer."""
        if bound <= size:
            return list(range(bound))
        found: set[int] = set()
        while len(found) < size:
            found.add(self.below(bound))
        return sorted(found)
