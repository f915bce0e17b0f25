"""How parties and data sets stood when a record was made, folded from their registries' logs.

The registries' views tell how things stand now; a data set that was withdrawn since was still
good for the records made before (docs/protocol.md, section 4.3).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chain import structs
from chain.events import LedgerEvent
from chain.ledger_view import LedgerView
from chain.membership import ROLE_IDS
from chain.types import DatasetState, DatasetVersion, LogPosition, Role


@dataclass(frozen=True, slots=True)
class _Party:
    """How a party stood from a log on, until its next one."""

    since: LogPosition
    is_hospital: bool
    is_suspended: bool


@dataclass(frozen=True, slots=True)
class _Version:
    """How a data-set version stood from a log on; ``registered`` is what its first one said."""

    since: LogPosition
    registered: dict[str, Any]
    state: DatasetState
    purposes: int


class RegistryHistory:
    """What the logs of the two registries came to, by the party or data-set version.

    Each log is folded once and each state of a version is one object: a bundle may hold any
    number of changes, and of records that name one version again and again.

    Args:
        events: A federation's events in the order of the chain.
    """

    def __init__(self, events: Iterable[LedgerEvent]) -> None:
        self._parties: defaultdict[str, list[_Party]] = defaultdict(list)
        self._versions: defaultdict[bytes, list[_Version]] = defaultdict(list)
        self._read: dict[tuple[bytes, int], DatasetVersion] = {}
        for event in events:
            if event.contract == "ParticipantRegistry" and "account" in event.args:
                party = self._parties[event.args["account"]]
                party.append(_party_after(party[-1] if party else None, event))
            elif event.contract == "DatasetRegistry":
                version = self._versions[event.args["version"]]
                if event.name == "VersionRegistered":
                    version.append(_registered(event))
                elif version:
                    version.append(_version_after(version[-1], event))

    @classmethod
    def read(cls, reader: LedgerView, to_block: int) -> "RegistryHistory":
        """Read the logs up to a block, inclusive.

        Raises:
            LedgerError: If the chain cannot be read.
        """
        return cls(reader.events(0, to_block))

    def is_active_hospital(self, address: str, position: LogPosition) -> bool:
        """Tell whether a party was a hospital, and not suspended, before a place on the chain."""
        states = self._parties.get(address, ())
        count = _count_before(states, position)
        return count > 0 and states[count - 1].is_hospital and not states[count - 1].is_suspended

    def version(self, version: bytes, position: LogPosition) -> DatasetVersion | None:
        """Give a data-set version as it stood before a place on the chain; None where unknown."""
        states = self._versions.get(version, ())
        count = _count_before(states, position)
        if count == 0:
            return None
        if (version, count) not in self._read:
            self._read[version, count] = _dataset_version(version, states[count - 1])
        return self._read[version, count]


def _count_before(states: Sequence[_Party] | Sequence[_Version], position: LogPosition) -> int:
    return bisect_left(states, _place(position), key=lambda one: _place(one.since))


def _place(position: LogPosition) -> tuple[int, int]:
    return position.block, position.log_index


def _party_after(before: _Party | None, event: LedgerEvent) -> _Party:
    party = _Party(
        since=event.position,
        is_hospital=before is not None and before.is_hospital,
        is_suspended=before is not None and before.is_suspended,
    )
    is_of_hospitals = event.args.get("role") == ROLE_IDS[Role.HOSPITAL]
    match event.name:
        case "RoleGranted" | "RoleRevoked" if is_of_hospitals:
            return replace(party, is_hospital=event.name == "RoleGranted")
        case "ParticipantSuspended" | "ParticipantReinstated":
            return replace(party, is_suspended=event.name == "ParticipantSuspended")
        case _:
            return party


def _registered(event: LedgerEvent) -> _Version:
    purposes = event.args["terms"]["purposes"]
    return _Version(event.position, event.args, DatasetState.ACTIVE, purposes)


def _version_after(version: _Version, event: LedgerEvent) -> _Version:
    version = replace(version, since=event.position)
    match event.name:
        case "VersionSuperseded":
            return replace(version, state=DatasetState.SUPERSEDED)
        case "VersionWithdrawn":
            return replace(version, state=DatasetState.WITHDRAWN)
        case "PurposesChanged":
            return replace(version, purposes=event.args["purposes"])
        case _:
            return version


def _dataset_version(version: bytes, found: _Version) -> DatasetVersion:
    args = found.registered
    stored = {**args["terms"], **args, "state": found.state, "purposes": found.purposes}
    return structs.dataset_version(version, stored)
