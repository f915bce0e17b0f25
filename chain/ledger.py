"""What a party does on the ledger: every write, signed on this machine.

Each write is tried first, so that a refusal costs nothing; then it is signed, kept in the
outbox and sent (see `chain.sending`), and returns when its receipt is there.

All writes raise `ContractRevertedError` where the contract refuses, `InvalidInputError` where a
value does not fit the contract, and `LedgerError` where the chain cannot be reached or takes too
long; in the last case the transaction is kept and sent again.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

from eth_account.signers.local import LocalAccount

from chain import structs
from chain.addresses import checked_address
from chain.codec import encode_call
from chain.contract import Contract
from chain.membership import ROLE_IDS
from chain.outbox import OutboxEntry
from chain.reader import LedgerReader
from chain.readings_ledger import ReadingsWriter
from chain.rpc import RawReceipt
from chain.sending import Receipt, Sender
from chain.types import DatasetTerms, LedgerHead, Role, RoundTerms, UpdateRecord, Verdict


class Ledger(LedgerReader):
    """Reads a federation's contracts and writes to them as one party.

    Args:
        rpc_url: The chain's JSON-RPC URL.
        ledger_address: The RoundLedger, which names the federation.
        account: The party's key, which pays and signs.
        outbox_folder: Keeps signed transactions; all processes of the party share it.
        image_access: The ImageAccess; needed for grants only.
    """

    def __init__(
        self,
        rpc_url: str,
        ledger_address: str,
        account: LocalAccount,
        outbox_folder: Path,
        image_access: str | None = None,
    ) -> None:
        super().__init__(rpc_url, ledger_address, image_access)
        self._sender = Sender(self._rpc, account, outbox_folder)

    @property
    def account_address(self) -> str:
        """The address of the party that writes."""
        return self._sender.address

    def resend_lost(self) -> int:
        """Send again what the chain forgot, for instance after it was killed.

        Call it at start; every write does so first, too.

        Returns:
            How many transactions were sent again.
        """
        return self._sender.resend_lost()

    def given_up(self) -> tuple[OutboxEntry, ...]:
        """List the transactions that the chain forgot and the contracts then refused for good."""
        return self._sender.outbox.given_up()

    # Parties

    def enroll(self, account: str, role: Role, encryption_key: bytes, name: str) -> Receipt:
        """Give a party a role and publish its X25519 key. Stewards only."""
        party = checked_address(account)
        values = (party, ROLE_IDS[role], encryption_key, name)
        return self._write(self._participants, "enroll", values, f"enrol {party} as {role.value}")

    def set_encryption_key(self, encryption_key: bytes) -> Receipt:
        """Replace the party's own X25519 public key."""
        values = (encryption_key,)
        return self._write(self._participants, "setEncryptionKey", values, "change encryption key")

    def suspend(self, account: str, reason: str) -> Receipt:
        """Lock a party out of every role. Stewards only."""
        values = (checked_address(account), reason)
        return self._write(self._participants, "suspend", values, f"suspend {account}")

    def reinstate(self, account: str) -> Receipt:
        """End a suspension. Stewards only."""
        values = (checked_address(account),)
        return self._write(self._participants, "reinstate", values, f"reinstate {account}")

    # Data sets

    def register_version(self, terms: DatasetTerms) -> bytes:
        """Register a version of the hospital's data set.

        Returns:
            The version's identifier (protocol 4.3).
        """
        values = (structs.dataset_values(terms),)
        what = f"register a version of data set {terms.name}"
        receipt = self._send(self._datasets, "registerVersion", values, what)
        version: bytes = self._datasets.emitted("VersionRegistered", receipt.logs)["version"]
        return version

    def withdraw(self, version: bytes, reason: str) -> Receipt:
        """Withdraw the hospital's version from all rounds to come."""
        what = f"withdraw version 0x{version.hex()}"
        return self._write(self._datasets, "withdraw", (version, reason), what)

    def erase_image(self, version: bytes, image: bytes, proof: Sequence[bytes]) -> Receipt:
        """Say that an image of the hospital's version was erased (protocol 4.5).

        Args:
            version: The data-set version, in any state; an active one is withdrawn by it.
            image: The image's commitment.
            proof: The Merkle proof that the image is in the version, made before its salt and the
                image itself were deleted.
        """
        what = f"erase image 0x{image.hex()} from version 0x{version.hex()}"
        return self._write(self._datasets, "erase", (version, image, tuple(proof)), what)

    def permit_purposes(self, version: bytes, purposes: frozenset[int]) -> Receipt:
        """Replace the purposes (DUO numbers) that the hospital's version permits."""
        what = f"change the purposes of version 0x{version.hex()}"
        values = (version, structs.purpose_bits(purposes))
        return self._write(self._datasets, "permitPurposes", values, what)

    # Rounds

    def open_round(self, terms: RoundTerms) -> int:
        """Open a round. Aggregators only.

        Returns:
            Its number.
        """
        what = f"open a round of {terms.task}"
        receipt = self._send(self._ledger, "openRound", (structs.round_values(terms),), what)
        number: int = self._ledger.emitted("RoundOpened", receipt.logs)["round"]
        return number

    def record_update(self, record: UpdateRecord) -> Receipt:
        """Record the party's own update."""
        what = f"record an update for round {record.round}"
        return self._write(self._ledger, "recordUpdate", (structs.record_values(record),), what)

    def relay_update(self, record: UpdateRecord, signature: bytes) -> Receipt:
        """Record a hospital's update on its signature."""
        what = f"relay the update of {record.hospital} for round {record.round}"
        values = (structs.record_values(record), signature)
        return self._write(self._ledger, "relayUpdate", values, what)

    def relay_updates(self, signed: Sequence[tuple[UpdateRecord, bytes]]) -> Receipt:
        """Record several hospitals' updates on their signatures, all or none."""
        records = [structs.record_values(record) for record, _ in signed]
        signatures = [signature for _, signature in signed]
        what = f"relay {len(records)} updates"
        return self._write(self._ledger, "relayUpdates", (records, signatures), what)

    def propose(
        self, round_number: int, model: bytes, model_blob: bytes, verdicts: Sequence[Verdict]
    ) -> Receipt:
        """Propose the round's model with a verdict for each record, ascending by hospital."""
        values = (round_number, model, model_blob, structs.verdict_values(verdicts))
        return self._write(self._ledger, "propose", values, f"propose for round {round_number}")

    def attest(self, round_number: int, proposal: int, witness: str, signature: bytes) -> Receipt:
        """Record a witness's signature under the newest proposal."""
        values = (round_number, proposal, checked_address(witness), signature)
        what = f"attest proposal {proposal} of round {round_number} for {witness}"
        return self._write(self._ledger, "attest", values, what)

    def dispute(
        self, round_number: int, proposal: int, model: bytes, verdicts: bytes, evidence: bytes
    ) -> Receipt:
        """Record that this witness got another result.

        Args:
            round_number: The round.
            proposal: The disputed proposal's number.
            model: The model digest that it got, zero where it could compute none.
            verdicts: The root of the verdicts that it got.
            evidence: The blob of its evidence.
        """
        values = (round_number, proposal, model, verdicts, evidence)
        what = f"dispute proposal {proposal} of round {round_number}"
        return self._write(self._ledger, "dispute", values, what)

    def cosign(self, head: LedgerHead, witness: str, signature: bytes) -> Receipt:
        """Record a witness's signature under the head of a final round."""
        values = (structs.head_values(head), checked_address(witness), signature)
        what = f"cosign the head of round {head.round} for {witness}"
        return self._write(self._ledger, "cosign", values, what)

    def abort(self, round_number: int, reason: str) -> Receipt:
        """End a round without a model."""
        what = f"abort round {round_number}"
        return self._write(self._ledger, "abort", (round_number, reason), what)

    # Grants

    def grant_access(
        self,
        researcher: str,
        version: bytes,
        image: bytes | None,
        proof: Sequence[bytes],
        *,
        purpose: int,
        expiry: int,
        hospital: str | None = None,
    ) -> bytes:
        """Grant a researcher sight of the hospital's version, or of one image in it.

        Args:
            researcher: Who may look.
            version: The data-set version, which has to permit the purpose.
            image: The image's commitment, None for the whole version.
            proof: The Merkle proof that the image is in the version, empty for the whole.
            purpose: DUO number.
            expiry: Unix time in seconds after which it ends.
            hospital: In whose name; the party itself unless it is a hospital's data steward.

        Returns:
            The grant's identifier.
        """
        party = checked_address(researcher)
        owner = checked_address(hospital or self.account_address)
        # The contract asks this at each look, and would take a grant that can never be used.
        self._datasets.ask("usableImages", owner, [version], purpose)
        terms = (version, image or bytes(32), owner, party, purpose, expiry)
        receipt = self._send(
            self._grants, "grant", (terms, tuple(proof)), f"grant access to {party}"
        )
        grant: bytes = self._grants.emitted("AccessGranted", receipt.logs)["grantId"]
        return grant

    def revoke(self, grant: bytes) -> Receipt:
        """Take a grant of the hospital's back, or one that the party may change in its name."""
        log = self._granted(grant, self.head().number)
        values = (structs.grant_values(log.args),)
        return self._write(self._grants, "revoke", values, f"revoke grant 0x{grant.hex()}")

    def delegate(self, data_steward: str, until: int) -> Receipt:
        """Let a data steward grant and revoke in the hospital's name until a time, 0 for never."""
        party = checked_address(data_steward)
        return self._write(self._grants, "delegate", (party, until), f"delegate grants to {party}")

    # Access logs

    def anchor_looks(self, root: bytes, first: int, entries: int) -> Receipt:
        """Anchor the next entries of the hospital's access log (protocol 15)."""
        what = f"anchor {entries} looks from number {first}"
        return self._write(self._access_logs, "anchor", (root, first, entries), what)

    # Readings

    @functools.cached_property
    def readings(self) -> ReadingsWriter:
        """The clinicians' readings and the requests for them, to read and to write."""
        return ReadingsWriter(self._rpc, self._readings_address, self._sender)

    def _write(
        self, contract: Contract, function: str, values: tuple[object, ...], what: str
    ) -> Receipt:
        return Receipt.of(self._send(contract, function, values, what))

    def _send(
        self, contract: Contract, function: str, values: tuple[object, ...], what: str
    ) -> RawReceipt:
        data = encode_call(contract.name, function, *values)
        return self._sender.send(contract.address, data, what)
