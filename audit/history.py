"""How parties and data sets stood when a record was made, folded from their registries' logs.

The registries' views tell how things stand now; a data set that was withdrawn since was still
good for the records made before (docs/protocol.md, section 4.3).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from chain import structs
from chain.events import LedgerEvent, Log
from chain.ledger_view import LedgerView
from chain.membership import members
from chain.types import DatasetState, DatasetVersion, LogPosition, Role


class RegistryHistory:
    """The logs of the two registries, by the party or data-set version that they are about.

    Args:
        events: A federation's events in the order of the chain.
    """

    def __init__(self, events: Iterable[LedgerEvent]) -> None:
        self._parties: defaultdict[str, list[LedgerEvent]] = defaultdict(list)
        self._versions: defaultdict[bytes, list[LedgerEvent]] = defaultdict(list)
        for event in events:
            if event.contract == "ParticipantRegistry" and "account" in event.args:
                self._parties[event.args["account"]].append(event)
            elif event.contract == "DatasetRegistry":
                self._versions[event.args["version"]].append(event)

    @classmethod
    def read(cls, reader: LedgerView, to_block: int) -> "RegistryHistory":
        """Read the logs up to a block, inclusive.

        Raises:
            LedgerError: If the chain cannot be read.
        """
        return cls(reader.events(0, to_block))

    def is_active_hospital(self, address: str, position: LogPosition) -> bool:
        """Tell whether a party was a hospital, and not suspended, before a place on the chain."""
        events = _before(self._parties.get(address, ()), position)
        logs = (Log(event.name, event.args, event.position) for event in events)
        party = members(logs).get(address)
        return party is not None and Role.HOSPITAL in party.roles and not party.suspended

    def version(self, version: bytes, position: LogPosition) -> DatasetVersion | None:
        """Give a data-set version as it stood before a place on the chain; None where unknown."""
        found: DatasetVersion | None = None
        for event in _before(self._versions.get(version, ()), position):
            found = _after(found, event)
        return found


def _before(events: Sequence[LedgerEvent], position: LogPosition) -> Sequence[LedgerEvent]:
    place = (position.block, position.log_index)
    end = bisect_left(events, place, key=lambda one: (one.position.block, one.position.log_index))
    return events[:end]


def _after(version: DatasetVersion | None, event: LedgerEvent) -> DatasetVersion | None:
    args = event.args
    if event.name == "VersionRegistered":
        return _registered(args)
    if version is None:
        return None
    match event.name:
        case "VersionSuperseded":
            return replace(version, state=DatasetState.SUPERSEDED)
        case "VersionWithdrawn":
            return replace(version, state=DatasetState.WITHDRAWN)
        case "PurposesChanged":
            return replace(version, purposes=structs.purpose_numbers(args["purposes"]))
        case _:
            return version


def _registered(args: dict[str, Any]) -> DatasetVersion:
    stored = {**args["terms"], **args, "state": DatasetState.ACTIVE}
    return structs.dataset_version(args["version"], stored)
