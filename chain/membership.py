"""Who held which role and key at a block, folded from the registry's logs (protocol 2)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from chain.digests import keccak
from chain.events import Log
from chain.types import Participant, Role

ROLE_IDS: Mapping[Role, bytes] = {role: keccak(role.value.encode()) for role in Role}
_ROLES: Mapping[bytes, Role] = {role_id: role for role, role_id in ROLE_IDS.items()}


def members(logs: Iterable[Log]) -> dict[str, Participant]:
    """Fold a participant registry's logs into its participants by address.

    Args:
        logs: All of its logs from its deployment to the block of interest, in order.
    """
    found: dict[str, Participant] = {}
    for log in logs:
        if "account" not in log.args:
            continue  # A role's administrator changed, which says nothing about a party.
        account = log.args["account"]
        member = found.get(account, Participant(account, frozenset(), bytes(32), "", False))
        found[account] = _after(member, log.event, log.args)
    return found


def _after(member: Participant, event: str, args: Mapping[str, Any]) -> Participant:
    match event:
        case "RoleGranted" if args["role"] in _ROLES:
            return replace(member, roles=member.roles | {_ROLES[args["role"]]})
        case "RoleRevoked" if args["role"] in _ROLES:
            return replace(member, roles=member.roles - {_ROLES[args["role"]]})
        case "ParticipantEnrolled":
            return replace(member, encryption_key=args["encryptionKey"], name=args["name"])
        case "EncryptionKeyChanged":
            return replace(member, encryption_key=args["encryptionKey"])
        case "ParticipantSuspended":
            return replace(member, suspended=True)
        case "ParticipantReinstated":
            return replace(member, suspended=False)
        case _:
            return member
