"""What a researcher may see at this moment, by the chain: docs/protocol.md, section 11."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from chain.reader import GrantsAnswer
from chain.types import AccessGrant
from node.gateway.catalogue import Instance
from node.look_log import Sight


class Grants(Protocol):
    """The part of `chain.reader.LedgerReader` that permission comes from."""

    def grants_of(self, researcher: str) -> GrantsAnswer:
        """List a researcher's grants at the newest block."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a researcher may see of one hospital, as it stood at one block.

    Attributes:
        researcher: Who may.
        time: The block's timestamp.
        grants: The grants that were live, by version and image (None for a whole version).
    """

    researcher: str
    time: int
    grants: dict[tuple[bytes, bytes | None], AccessGrant]

    def sight(self, instance: Instance) -> Sight | None:
        """Return under which grant an instance may be shown, None if it may not."""
        for one in instance.holdings:
            grant = self.grants.get((one.version, one.image))
            grant = grant or self.grants.get((one.version, None))
            if grant is not None:
                return Sight(self.researcher, grant.grant, one.version, one.image)
        return None

    def visible(self, instances: Iterable[Instance]) -> list[Instance]:
        """Return the instances that may be shown."""
        return [one for one in instances if self.sight(one) is not None]


def permit(ledger: Grants, hospital: str, researcher: str, purpose: int | None) -> Permit:
    """Ask the chain what a researcher may see at its newest block.

    Args:
        ledger: The chain.
        hospital: Whose images.
        researcher: Who asks.
        purpose: DUO number of what for; None where any granted purpose will do.

    Raises:
        LedgerError: If the chain cannot be reached; nothing may be shown then.
    """
    answer = ledger.grants_of(researcher)
    live = {
        (one.version, one.image): one
        for one in answer.grants
        if one.live
        and one.hospital == hospital
        and one.researcher == researcher
        and purpose in {None, one.purpose}
    }
    return Permit(researcher, answer.block.timestamp, live)
