"""Every error that FedWitness raises on purpose.

::

    FedWitnessError
    ├── InvalidInputError            what was handed in is wrong
    ├── LedgerError                  the chain refused, or cannot be reached
    │   ├── ContractRevertedError    a contract's own error, by name
    │   ├── RefusedRequestError      the chain's node did not take a request, in its own words
    │   ├── LongAnswerError
    │   ├── MissingContractError
    │   ├── UnknownRoundError
    │   ├── UncosignedError          too few witnesses signed a final round's head so far
    │   └── PhaseError
    ├── BlobUnavailableError         IPFS does not have it, or cannot be reached
    ├── VerificationError            what arrived is not what was vouched for
    │   ├── DigestMismatchError
    │   ├── InclusionProofError
    │   ├── EnvelopeError
    │   └── BundleError              a file is no audit bundle, or not of its form
    ├── UnfitRoundError              a round's updates make no model that could be proposed
    ├── ServerError                  the REST server refused, or cannot be reached
    ├── KeystoreError                a key file is missing, damaged or the password is wrong
    ├── IndexDatabaseError           the index's database cannot be used, or is of another version
    ├── CompilationError             the contracts do not compile
    └── DevnetError                  the local network cannot be started or stopped

Every message says what was expected, what was found, and what to do where that is not obvious.
"""

from collections.abc import Mapping

from chain.types import Reason, Verdict


class FedWitnessError(Exception):
    """The root of the tree: catch it to catch whatever FedWitness raises on purpose."""


class InvalidInputError(FedWitnessError):
    """What a caller handed in is malformed or out of range; nothing was changed."""


class LedgerError(FedWitnessError):
    """The chain refused a request, or cannot be reached."""


class ContractRevertedError(LedgerError):
    """A contract refused a call with one of its own errors.

    Args:
        name: The Solidity error's name, such as ``RoundLedgerLateRecord``.
        args: Its arguments by parameter name; bytes are ``0x`` hex.
    """

    def __init__(self, name: str, args: Mapping[str, object]) -> None:
        """Keep the decoded error and say it in one line."""
        self.name = name
        self.arguments = dict(args)
        told = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        super().__init__(f"the contract refused: {name}({told})")


class RefusedRequestError(LedgerError):
    """The chain's node did not do what it was asked. The reason is the node's own words."""


class LongAnswerError(LedgerError):
    """The chain's node answered with more than is read of one answer."""


class MissingContractError(LedgerError):
    """Where a contract should be there is none."""


class UnknownRoundError(LedgerError):
    """The ledger has no round of this number."""


class UncosignedError(LedgerError):
    """Too few witnesses signed the ledger's head of a final round so far (protocol 13).

    Args:
        number: The round.
        quorum: How many are needed.
        witnesses: Who signed it.
        others: Who signed another one.
    """

    def __init__(
        self,
        number: int,
        quorum: int,
        witnesses: tuple[str, ...],
        others: tuple[str, ...] = (),
    ) -> None:
        """Say who signed and what to do."""
        self.witnesses = witnesses
        told = (
            f"expected {quorum} witnesses to have signed the ledger's head of round {number}, "
            f"found {len(witnesses)} ({', '.join(witnesses) or 'nobody'}): they do so soon after "
            "the round became final, while `fedwitness witness run` runs; try again later"
        )
        if others:
            told += (
                f". Another head was signed by {', '.join(others)}: `fedwitness audit` tells "
                "whether the chain was split or a witness is at fault"
            )
        super().__init__(told)


class PhaseError(LedgerError):
    """The round is in another phase than the request needs."""


class BlobUnavailableError(FedWitnessError):
    """A blob cannot be had: nobody provides it, or the IPFS node cannot be reached."""


class VerificationError(FedWitnessError):
    """What arrived is not what was vouched for."""


class DigestMismatchError(VerificationError):
    """Bytes do not hash to the digest or CID that names them.

    Args:
        what: What was hashed.
        expected: The digest that was vouched for.
        found: The digest of the bytes at hand.
    """

    def __init__(self, what: str, expected: object, found: object) -> None:
        """Say which of the two digests was expected."""
        self.expected = expected
        self.found = found
        super().__init__(f"{what}: expected {expected}, found {found}")


class InclusionProofError(VerificationError):
    """A Merkle proof does not lead to the root."""


class EnvelopeError(VerificationError):
    """An envelope is malformed, meant for someone or somewhere else, or does not open.

    Args:
        reason: The step of admission that it fails (docs/protocol.md, section 8).
        message: What was expected and found.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the reason, which becomes the verdict's."""
        self.reason = reason
        super().__init__(message)


class BundleError(VerificationError):
    """A file is no audit bundle, or is cut, or not of the form of docs/protocol.md, section 14."""


class UnfitRoundError(FedWitnessError):
    """A round's updates make no model: too few were kept, or the aggregate is not finite.

    Args:
        message: What is missing.
        verdicts: What admission and rule said of each record, as far as they came.
    """

    def __init__(self, message: str, verdicts: tuple[Verdict, ...] = ()) -> None:
        """Keep the verdicts: they tell why the round makes no model."""
        self.verdicts = verdicts
        super().__init__(message)


class ServerError(FedWitnessError):
    """The REST server refused a request, or cannot be reached.

    Args:
        message: What happened and what to do.
        problem: The problem's type (RFC 9457), or empty if the server did not answer.
        contract_error: Name of the contract's own error where a contract refused, or empty.
    """

    def __init__(self, message: str, problem: str = "", contract_error: str = "") -> None:
        """Keep what a caller tells refusals apart by."""
        self.problem = problem
        self.contract_error = contract_error
        super().__init__(message)


class KeystoreError(FedWitnessError):
    """A keystore file is missing or damaged, or the password does not open it."""


class IndexDatabaseError(FedWitnessError):
    """The index's database cannot be reached, or holds another version or another ledger."""


class DevnetError(FedWitnessError):
    """The local network cannot be started, reached or stopped."""


class CompilationError(FedWitnessError):
    """The contracts do not compile, or there is no compiler."""
