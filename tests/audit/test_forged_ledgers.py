"""A quorum of lying witnesses can sign any history: the verifier tells, and never falls.

Blocks, receipts and signatures are all as they should be; only what the logs say is forged.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.bundle import BundleReport, verify_bundle
from audit.verify import EVENTS, RECORDS, VERDICTS, WITNESSES
from chain import rlp
from chain.codec import topic_of
from chain.digests import keccak
from chain.errors import FedWitnessError
from chain.histories import genesis_history, next_history
from chain.signing import sign_head
from chain.trie import prove, proven_value, trie_root
from chain.types import LedgerHead
from tests.aggregator.training import Training
from tests.audit.breaking import Opened
from tests.audit.bundles import bundle_of
from tests.federation import WITNESSES as WITNESS_NAMES
from tests.federation import identity

Log = tuple[bytes, list[bytes], bytes]  # address, topics, data
Forge = Callable[[Log], Log]
_RECEIPTS_ROOT, _PREFIX = 5, 9
SEEDS = 25


@pytest.fixture
def honest(training: Training, tmp_path: Path) -> Opened:
    training.finish(training.open_round())
    bundle_of(training, 1, tmp_path / "honest")
    return Opened.read((tmp_path / "honest").read_bytes())


def forged(was: Opened, forge: Forge) -> Opened:
    """Put other logs into a bundle, and have its witnesses sign what comes of it."""
    place = was.header
    ours = {bytes.fromhex(place[name][2:]) for name in ("ledger", "participants", "datasets")}
    where = (place["ledger"], place["participants"], place["datasets"])
    history = genesis_history(int(place["chain_id"]), *where)
    blocks: list[rlp.Item] = []
    for block in rlp.as_list(rlp.decode(was.parts["ledger"])):
        header, receipts = map(rlp.as_list, rlp.as_list(block))
        values, count = {}, 0
        for one in receipts:
            index, nodes = rlp.as_list(one)
            key = rlp.encode(index)
            encoded = proven_value(
                rlp.as_bytes(header[_RECEIPTS_ROOT]),
                key,
                [rlp.as_bytes(n) for n in rlp.as_list(nodes)],
            )
            kind, body = (encoded[:1], encoded[1:]) if encoded[0] < 0xC0 else (b"", encoded)
            status, gas, bloom, logs = rlp.as_list(rlp.decode(body))
            told: list[rlp.Item] = []
            for log in map(rlp.as_list, rlp.as_list(logs)):
                address, topics, data = log
                if rlp.as_bytes(address) not in ours:
                    told.append(log)
                    continue
                count += 1
                plain = [rlp.as_bytes(topic) for topic in rlp.as_list(topics)]
                new = forge((rlp.as_bytes(address), plain, rlp.as_bytes(data)))
                told.append([new[0], list(new[1]), new[2]])
            values[key] = kind + rlp.encode([status, gas, bloom, told])
        header[_RECEIPTS_ROOT] = trie_root(values)
        proofs = prove(values, list(values))
        proven: list[rlp.Item] = [
            [rlp.decode(key), list(proof)] for key, proof in zip(values, proofs, strict=True)
        ]
        block_hash = keccak(rlp.encode(header))
        history = next_history(history, rlp.as_int(header[8]), block_hash, count)
        blocks.append([header, proven])
    head = LedgerHead(
        round=int(place["round"]),
        number=int(place["head"]["number"]),
        hash=block_hash,
        blocks=len(blocks),
        history=history,
    )
    accounts = [identity(name).account for name in WITNESS_NAMES]
    signed = {
        str(one.address): sign_head(int(place["chain_id"]), place["ledger"], head, one).hex()
        for one in accounts
    }
    changed = {
        **place,
        "head": {
            "blocks": str(head.blocks),
            "hash": head.hash.hex(),
            "history": head.history.hex(),
            "number": str(head.number),
        },
        "cosignatures": [
            {"signature": signed[one], "witness": one} for one in sorted(signed, key=str.lower)
        ],
    }
    return Opened(changed, {**was.parts, "ledger": rlp.encode(blocks)})


def verify(bundle: Opened, folder: Path) -> BundleReport:
    (folder / "forged").write_bytes(bundle.to_bytes())
    return verify_bundle(folder / "forged", workdir=folder / "work")


def only(event: str, change: Callable[[Log], Log]) -> Forge:
    """Change the logs of one event of the RoundLedger."""
    topic = topic_of("RoundLedger", event)
    return lambda log: change(log) if log[1][0] == topic else log


def word(log: Log, place: int, value: int) -> Log:
    """Put a number into a word of a log's data."""
    address, topics, data = log
    return address, topics, data[: 32 * place] + value.to_bytes(32, "big") + data[32 * place + 32 :]


def test_an_honest_history_that_is_signed_anew_verifies(honest: Opened, tmp_path: Path) -> None:
    assert verify(forged(honest, lambda log: log), tmp_path).audit.findings == ()


@pytest.mark.parametrize(
    ("event", "place", "value", "step"),
    [
        ("VerdictRecorded", 0, 1, VERDICTS),  # another outcome
        ("VerdictRecorded", 0, 9, EVENTS),  # an outcome that there is not
        ("VerdictRecorded", 1, 3, VERDICTS),  # another reason
        ("VerdictRecorded", 2, 5, VERDICTS),  # another score
        ("VerdictRecorded", 0, 1 << 255, EVENTS),  # no uint8
        ("UpdateRecorded", 2, 99, RECORDS),  # another count of examples
        ("UpdateRecorded", 1, 1 << 255, EVENTS),  # an offset far beyond the data
        ("ModelProposed", 0, 77, EVENTS),  # another model than the bundle's
        ("ProposalAttested", 0, 64, EVENTS),  # an offset to nothing
        ("RoundOpened", 0, 1 << 200, EVENTS),
    ],
)
def test_a_forged_log_is_found(
    honest: Opened, tmp_path: Path, event: str, place: int, value: int, step: int
) -> None:
    report = verify(forged(honest, only(event, lambda log: word(log, place, value))), tmp_path)
    assert step in {one.step for one in report.audit.findings}


def test_attestations_cannot_be_forged_with_the_history(honest: Opened, tmp_path: Path) -> None:
    def garble(log: Log) -> Log:
        address, topics, data = log
        return address, topics, data[:70] + bytes([data[70] ^ 1]) + data[71:]

    report = verify(forged(honest, only("ProposalAttested", garble)), tmp_path)
    assert WITNESSES in {one.step for one in report.audit.findings}


def test_a_log_of_no_known_event_is_found(honest: Opened, tmp_path: Path) -> None:
    def unknown(log: Log) -> Log:
        return log[0], [bytes(32), *log[1][1:]], log[2]

    for forge in (unknown, lambda log: (log[0], [], log[2]), lambda log: (*log[:2], b"")):
        report = verify(forged(honest, only("RoundFinalized", forge)), tmp_path)
        assert {one.step for one in report.audit.findings} == {EVENTS}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_logs_say_the_verifier_does_not_fall(
    honest: Opened, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)  # noqa: S311 - nothing is kept secret

    def garble(log: Log) -> Log:
        address, topics, data = log
        broken = bytearray(b"".join(topics) + data)
        for _ in range(draw.choice([0, 0, 0, 1, 2])):
            place = draw.randrange(min(32, len(broken)), len(broken) + 1)
            broken[place : place + 1] = bytes([draw.choice([0, 1, 31, 32, 128, 255])])
        end = 32 * len(topics)
        return address, [bytes(broken[i : i + 32]) for i in range(0, end, 32)], bytes(broken[end:])

    try:
        verify(forged(honest, garble), tmp_path)
    except FedWitnessError as error:
        pytest.fail(f"expected a report, found {error!r}")
