"""Bundles to be verified and broken: of a small federation whose rounds are real.

The witnesses' signatures over heads are made here where no witness runs.
"""

from pathlib import Path

from audit.bundling import Bundle, build_bundle
from chain.reader import LedgerReader
from chain.signing import sign_head
from chain.types import CosignedHead
from tests.aggregator.training import Training
from tests.federation import WITNESSES, Federation


class CosignedReader(LedgerReader):
    """A ledger whose witnesses sign whatever head they are asked for."""

    def __init__(self, federation: Federation, signers: tuple[str, ...] = WITNESSES) -> None:
        super().__init__(federation.rpc_url, federation.deployment.ledger)
        self._federation = federation
        self._signers = signers

    def cosignatures(self, number: int) -> tuple[CosignedHead, ...]:
        head = self.head_of_final(number)
        accounts = [self._federation.identities[name].account for name in self._signers]
        return tuple(
            CosignedHead(head, str(one.address), sign_head(self.chain_id, self.address, head, one))
            for one in accounts
        )


def model_of(training: Training, number: int) -> bytes:
    """Name the model that a final round made."""
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    return proposal.model


def bundle_of(
    training: Training, number: int, target: Path, *, full: bool = False, key: str | None = None
) -> Bundle:
    """Write the bundle of the model that a final round made."""
    federation = training.federation
    return build_bundle(
        CosignedReader(federation),
        training.blobs if full else None,
        model_of(training, number),
        target,
        private_key=federation.identities[key].encryption_private_key if key else None,
    )
