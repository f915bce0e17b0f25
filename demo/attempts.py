"""What cheats try, each with what it should meet.

A cheat here is an enrolled hospital with registered data: outsiders do not get past the first
check. What the contract refuses costs a cheat nothing; what only admission can see takes up the
cheat's one record in the round.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chain.digests import sha256
from chain.errors import ContractRevertedError, FedWitnessError, ServerError
from chain.signing import sign_update
from chain.tensors import Array, open_tensors, save_tensors
from chain.types import UpdateRecord
from demo.hospitals import CHEATS, HONEST
from demo.report import Attempt
from demo.scene import Scene
from node.client import RestClient

POISON_STRENGTH = 100.0
UPLOAD_SECONDS = 30.0


class CheatSucceededError(FedWitnessError):
    """An attempt was not refused: FedWitness is broken, and the story ends here."""


def poisoned(base: Path, honest: Path, out: Path) -> None:
    """Write an update that pulls the model away from what was learned, a hundred times as hard.

    Inner-product manipulation (Xie, Koyejo and Gupta 2020, *UAI*): base - 100 · (honest - base).
    A mean would follow it; a trimmed mean drops its values as the most extreme ones.
    """
    with open_tensors(base) as start, open_tensors(honest) as end:

        def opposite(key: str) -> Array:
            before = start.arrays[key].astype(np.float64)
            step = end.arrays[key].astype(np.float64) - before
            return (before - POISON_STRENGTH * step).astype(start.arrays[key].dtype)

        # The base model may hold a server optimiser's state, which no update has.
        save_tensors(out, {key: opposite(key) for key in end.arrays})


def refused_by_contract(scene: Scene, cheat: str, record: UpdateRecord, signer: str) -> str:
    """Send a record that the contract must refuse, and return the name of its error.

    Raises:
        CheatSucceededError: If the contract took it.
    """
    try:
        scene.send(record, scene.local.cast[signer])
    except ContractRevertedError as error:
        return error.name
    raise CheatSucceededError(f"the ledger took a record of {cheat} that it had to refuse")


def unregistered_data(scene: Scene, cheat: str) -> Attempt:
    """Claim data that was never registered."""
    record, _ = scene.seal(cheat, scene.base)
    record = replace(record, datasets=(sha256(b"data that nobody registered"),))
    return _by_contract(scene, cheat, "an unregistered data set", record)


def another_base_model(scene: Scene, cheat: str) -> Attempt:
    """Claim to have begun from another model than the round's."""
    record, _ = scene.seal(cheat, scene.base)
    record = replace(record, base_model=sha256(b"another model"))
    return _by_contract(scene, cheat, "another base model", record)


def inflated_count(scene: Scene, cheat: str) -> Attempt:
    """Claim more examples than there are registered images, for more weight."""
    record, _ = scene.seal(cheat, scene.base)
    record = replace(record, examples=1_000_000)
    return _by_contract(scene, cheat, "an inflated example count", record)


def forged_signature(scene: Scene, cheat: str, victim: str) -> Attempt:
    """Sign a record in the name of a peer that has not sent one yet."""
    record, _ = scene.seal(victim, scene.base)
    return _by_contract(scene, cheat, f"a forged signature of {victim}", record)


def old_record(scene: Scene, cheat: str, number: int) -> Attempt:
    """Send the record of an earlier round once more."""
    record = scene.record_of(cheat, number).record
    return _by_contract(scene, cheat, f"its record of round {number} again", record)


def swapped_upload(scene: Scene, cheat: str) -> Attempt:
    """Announce one envelope to the server and upload another of the same size."""
    record, envelope = scene.seal(cheat, scene.base)
    other = envelope.with_suffix(".swapped")
    other.write_bytes(envelope.read_bytes()[:-1] + b"\0")
    party = scene.local.cast[cheat]
    where = scene.local.addresses
    client = RestClient(where.api_url, party.identity, where.chain_id, where.ledger)
    with client:
        signature = sign_update(record, party.identity.account)
        reason = _refused_upload(client, record, signature, other)
    if not reason:
        raise CheatSucceededError(f"the server took another envelope of {cheat} than the record's")
    what = "a blob swapped on its way to the server"
    return Attempt(scene.round.number, cheat, what, reason, "server")


def swapped_blob(scene: Scene, cheat: str) -> UpdateRecord:
    """Record the digest of one update with the envelope of another."""
    record, _ = scene.seal(cheat, scene.changed_base(f"{cheat}-shown", lambda _, x: x * 2))
    other, _ = scene.seal(cheat, scene.changed_base(f"{cheat}-sent", lambda _, x: x * 3))
    return replace(record, blob=other.blob)


def copied_ciphertext(scene: Scene, cheat: str, victim: str) -> UpdateRecord:
    """Record a peer's envelope, which anyone can fetch, as one's own."""
    record, _ = scene.seal(cheat, scene.changed_base(f"{cheat}-shown", lambda _, x: x * 2))
    blob = scene.record_of(victim).record.blob
    return replace(record, blob=blob)


def copied_update(scene: Scene, cheat: str, victim: str) -> UpdateRecord:
    """Seal a peer's update, leaked by a witness, as one's own."""
    return scene.seal(cheat, scene.leak(victim, scene.round.number))[0]


def replayed_update(scene: Scene, cheat: str, victim: str, number: int) -> UpdateRecord:
    """Seal an update of an earlier round, leaked by a witness, as new."""
    return scene.seal(cheat, scene.leak(victim, number))[0]


def not_a_number(scene: Scene, cheat: str) -> UpdateRecord:
    """Send an update that would turn every mean into NaN."""
    path = scene.changed_base(f"{cheat}-nan", lambda _, x: np.full_like(x, np.nan))
    return scene.seal(cheat, path)[0]


def another_shape(scene: Scene, cheat: str) -> UpdateRecord:
    """Send tensors of another shape than the round's schema has."""
    path = scene.changed_base(f"{cheat}-shape", lambda _, x: x.reshape(1, *x.shape))
    return scene.seal(cheat, path)[0]


@dataclass(frozen=True, slots=True)
class Trick:
    """An attempt that only admission can see: ``record`` makes the cheat's record of the round."""

    cheat: str
    what: str
    record: Callable[[Scene], UpdateRecord]


def tricks_of_round(number: int) -> tuple[Trick, ...]:
    """Return what the two cheats record in the n-th round of the story, from 1."""
    gull, heron = CHEATS
    victim = HONEST[0]
    if number == 1:
        return (
            Trick(gull, "a blob swapped on the ledger", lambda s: swapped_blob(s, gull)),
            Trick(
                heron, "a peer's ciphertext copied", lambda s: copied_ciphertext(s, heron, victim)
            ),
        )
    if number == 2:  # noqa: PLR2004
        return (
            Trick(
                gull,
                "an update replayed from an earlier round",
                lambda s: replayed_update(s, gull, victim, s.round.number - 1),
            ),
            Trick(heron, "a peer's update copied", lambda s: copied_update(s, heron, victim)),
        )
    return (
        Trick(gull, "an update of NaN", lambda s: not_a_number(s, gull)),
        Trick(heron, "tensors of another shape", lambda s: another_shape(s, heron)),
    )


def play(scene: Scene, tricks: Sequence[Trick]) -> None:
    """Record the tricks of all cheats; they relay them together, which is cheaper."""
    signed = []
    for trick in tricks:
        record = trick.record(scene)
        cheat = scene.local.cast[trick.cheat]
        signed.append((record, sign_update(record, cheat.identity.account)))
    scene.local.ledger(scene.local.cast[tricks[0].cheat]).relay_updates(signed)


def attempts_of_round(scene: Scene, number: int) -> tuple[Attempt, ...]:
    """Play what contract or server refuse at once in the n-th round of the story, from 1."""
    gull, heron = CHEATS
    if number == 1:
        return (unregistered_data(scene, gull), another_base_model(scene, heron))
    if number == 2:  # noqa: PLR2004
        return (
            inflated_count(scene, gull),
            forged_signature(scene, heron, gull),
            swapped_upload(scene, gull),
        )
    return (old_record(scene, gull, scene.round.number - 1),)


def _by_contract(scene: Scene, cheat: str, what: str, record: UpdateRecord) -> Attempt:
    reason = refused_by_contract(scene, cheat, record, signer=cheat)
    return Attempt(scene.round.number, cheat, what, reason, "contract")


def _refused_upload(
    client: RestClient, record: UpdateRecord, signature: bytes, envelope: Path
) -> str:
    """Upload, wait for the server's word, and return why it refused; empty if it did not."""
    try:
        status = client.upload(record, signature, envelope)
        deadline = time.monotonic() + UPLOAD_SECONDS
        while status.state not in {"recorded", "refused"} and time.monotonic() < deadline:
            time.sleep(0.1)
            status = client.upload_status(status.id)
    except ServerError as error:
        return error.problem
    # The server's word begins with the reason; what to do about it is of no use to a cheat.
    return status.problem.split(";")[0] if status.state == "refused" else ""
