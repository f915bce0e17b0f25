"""From a federation's addresses to its ledger and its blobs."""

from chain.blobs import IpfsBlobStore
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.reader import LedgerReader


def reader(federation: Federation) -> LedgerReader:
    """Return the ledger to read from.

    Raises:
        InvalidInputError: If the federation's addresses are not known.
        LedgerError: If the chain cannot be reached.
    """
    federation.needs("rpc_url", "ledger")
    where = (federation.rpc_url, federation.ledger)
    return LedgerReader(*where, federation.image_access or None)


def writer(federation: Federation, keyring: Keyring, identity: Identity) -> Ledger:
    """Return the ledger to write to in a party's name. Raises what `reader` raises."""
    federation.needs("rpc_url", "ledger")
    where = (federation.rpc_url, federation.ledger)
    keys = (identity.account, keyring.outbox)
    return Ledger(*where, *keys, federation.image_access or None)


def blobs(federation: Federation) -> IpfsBlobStore:
    """Return the IPFS node.

    Raises:
        InvalidInputError: If its address is not known or malformed.
    """
    federation.needs("ipfs")
    return IpfsBlobStore(federation.ipfs)
