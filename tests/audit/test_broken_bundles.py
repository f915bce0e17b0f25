"""Whatever is changed in a bundle is found, also by whoever repairs the checksums."""

import json
import time
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from audit.__main__ import main
from audit.bundle import BundleReport, Trust, verify_bundle
from audit.container import MAGIC, opened
from audit.verify import BLOBS, BUNDLE, EVENTS, HEAD, REPLAY
from chain import rlp
from chain.canonical import canonical_json
from chain.cid import RAW, Cid
from chain.errors import BundleError, FedWitnessError
from chain.signing import sign_head
from chain.types import LedgerHead
from tests.aggregator.training import Training
from tests.audit.breaking import Opened, bits_of, flipped, regions, repaired, with_parts
from tests.audit.bundles import bundle_of
from tests.federation import Federation, connect, identity, unchanged
from tests.memory_blobs import MemoryBlobStore

SECONDS = 10.0  # that any of these files may take
BYTES = 100_000_000  # of memory that any of them may take


@pytest.fixture(scope="module")
def bundles(founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `light.bundle` and `full.bundle`, of a task of two rounds."""
    folder = tmp_path_factory.mktemp("bundles")
    rpc_url, deployment = founded_federation.rpc_url, founded_federation.deployment
    with unchanged(rpc_url):
        versions = dict(founded_federation.versions)
        federation = connect(rpc_url, deployment, folder / "outboxes", versions)
        training = Training(federation, MemoryBlobStore(), folder)
        for _ in range(2):
            training.finish(training.open_round())
        bundle_of(training, 2, folder / "light.bundle")
        bundle_of(training, 2, folder / "full.bundle", full=True, key="auditor")
    return folder


def verify(path: Path, trust: Trust | None = None) -> BundleReport:
    return verify_bundle(path, trust, workdir=path.parent / "work")


def steps_that_fail(path: Path) -> set[int]:
    return {step.number for step in verify(path).audit.steps if step.ok is False}


def is_found(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        return not verify(path).audit.ok
    except FedWitnessError:
        return True


@pytest.mark.parametrize("name", ["light", "full"])
def test_every_flipped_bit_is_found(bundles: Path, tmp_path: Path, name: str) -> None:
    data = (bundles / f"{name}.bundle").read_bytes()
    assert sum(one.end - one.start for one in regions(data)) >= len(data)
    bits = bits_of(list(regions(data)), 2_000, seed=7)
    assert len(bits) >= 2_000
    path, missed = tmp_path / "broken", []
    for kind, bit in bits:
        path.write_bytes(flipped(data, bit))
        try:
            # What `verify_bundle` does first; the rest of it is slower and finds no less.
            with opened(path) as bundle:
                if not list(bundle.faults()):
                    missed.append((kind, bit))
        except BundleError:
            continue
    assert not missed


@pytest.mark.parametrize("name", ["light", "full"])
def test_every_flipped_bit_is_found_though_all_checksums_fit(
    bundles: Path, tmp_path: Path, name: str
) -> None:
    data = (bundles / f"{name}.bundle").read_bytes()
    missed = []
    for kind, bit in bits_of(list(regions(data)), 500, seed=8):
        broken = repaired(data, flipped(data, bit))
        # Repairing puts the checksum at the end right again, whatever was done to it.
        if broken != data and not is_found(tmp_path / "broken", broken):
            missed.append((kind, bit))
    assert not missed


@pytest.mark.parametrize("name", ["light", "full"])
def test_a_truncated_or_longer_file_is_no_bundle(bundles: Path, tmp_path: Path, name: str) -> None:
    data = (bundles / f"{name}.bundle").read_bytes()
    for end in [0, 1, 7, 8, 11, 12, 13, 500, len(data) // 2, len(data) - 33, len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:end])
        with pytest.raises(BundleError):
            verify(tmp_path / "cut")
    (tmp_path / "long").write_bytes(data + b"\0")
    with pytest.raises(BundleError, match="as its header says"):
        verify(tmp_path / "long")


def header_of(**changes: Any) -> Callable[[Opened], Opened]:
    return lambda was: Opened({**was.header, **changes}, was.parts)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (header_of(version=2), "expected version 1"),
        (header_of(version=True), "expected version 1"),
        (header_of(mode="heavy"), "not a valid Mode"),
        (header_of(more=1), "expected the members"),
        (header_of(chain_id=31337), "expected a text"),
        (header_of(chain_id="031337"), "decimal string"),
        (header_of(chain_id=str(1 << 64)), "decimal string"),
        (header_of(round="-1"), "decimal string"),
        (header_of(model="ab"), "expected 32 bytes"),
        (header_of(ledger="0x" + "ab" * 20), "checksummed"),
        (header_of(head={}), "expected the members"),
        (header_of(head=[]), "expected the members"),
        (header_of(cosignatures={}), "expected a list"),
        (header_of(mode="light"), "no blobs and no keys"),
        (lambda was: Opened(was.header, {}), "expected the parts"),
        (lambda was: Opened(was.header, dict(reversed(was.parts.items()))), "expected the parts"),
        (lambda was: Opened(was.header, {**was.parts, "more": b""}), "expected the parts"),
        (lambda was: Opened(was.header, {**was.parts, "blob/bad": b""}), "expected the parts"),
        (lambda was: Opened(was.header, {"ledger": b"", "blob/x": b""}), "expected a CIDv1"),
        (
            lambda was: Opened(
                {**was.header, "cosignatures": was.header["cosignatures"] * 2}, was.parts
            ),
            "ascending by witness",
        ),
        (
            header_of(cosignatures=[{"signature": "00" * 65, "witness": "0x" + "00" * 20}] * 33),
            "at most 32 cosignatures, found 33",
        ),
    ],
)
def test_a_header_of_another_form_is_refused(
    bundles: Path, tmp_path: Path, change: Callable[[Opened], Opened], told: str
) -> None:
    was = Opened.read((bundles / "full.bundle").read_bytes())
    (tmp_path / "other").write_bytes(change(was).to_bytes())
    with pytest.raises(BundleError, match=told):
        verify(tmp_path / "other")


def test_a_part_that_occurs_twice_is_refused(bundles: Path, tmp_path: Path) -> None:
    data = (bundles / "full.bundle").read_bytes()
    was = Opened.read(data)
    blob = next(name for name in was.parts if name.startswith("blob/"))
    parts = []
    for part in was.header["parts"]:
        parts += [part] * (2 if part["name"] == blob else 1)
    text = canonical_json({**was.header, "parts": parts})
    content = b"".join(was.parts[part["name"]] for part in parts)
    body = MAGIC + len(text).to_bytes(4, "big") + text + content
    (tmp_path / "twice").write_bytes(body + sha256(body).digest())
    with pytest.raises(BundleError, match="ascending, each once"):
        verify(tmp_path / "twice")


def test_a_header_that_is_not_canonical_is_refused(bundles: Path, tmp_path: Path) -> None:
    data = (bundles / "light.bundle").read_bytes()
    length = int.from_bytes(data[8:12], "big")
    text = data[12 : 12 + length].replace(b'{"chain_id"', b'{ "chain_id"', 1)
    body = MAGIC + len(text).to_bytes(4, "big") + text + data[12 + length : -32]
    (tmp_path / "spaced").write_bytes(body + sha256(body).digest())
    with pytest.raises(BundleError, match="canonical JSON"):
        verify(tmp_path / "spaced")


def of_length(length: int, rest: bytes) -> bytes:
    return MAGIC + length.to_bytes(4, "big") + rest


BOMBS = {
    "a header longer than the file": of_length(1 << 20, b"{}" + bytes(32)),
    "a header of 4 GiB": of_length((1 << 32) - 1, bytes(64)),
    "nested arrays": of_length(1 << 20, b"[" * (1 << 20) + bytes(32)),
    "nested objects": of_length(600_000, b'{"a":' * 120_000 + bytes(32)),
    "a long number": of_length(300_000, b"1" * 300_000 + bytes(32)),
    "nothing": b"",
    "zeros": bytes(1 << 20),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_hostile_header_is_refused_in_bounded_time_and_memory(tmp_path: Path, what: str) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(BOMBS[what])
    with pytest.raises(BundleError):
        bounded(lambda: verify(path))


def hostile_ledgers() -> dict[str, bytes]:
    """What could be in the part `ledger`, where every checksum fits."""
    deep = b""
    for _ in range(3_000):
        deep = rlp.encode_list([deep])
    hashes: list[rlp.Item] = [bytes(32)] * 21
    # Number and time are what a header has to have besides hashes.
    fields = [b"\1" if place in (8, 11) else one for place, one in enumerate(hashes)]
    header = rlp.encode(fields)
    huge = rlp.encode_list([b"\xc0" * 20_000_000])
    return {
        "nothing": b"",
        "a byte string": rlp.encode(b"ledger"),
        "no block": b"\xc0",
        "an empty block": rlp.encode([[]]),
        "a list that claims more": b"\xff" + b"\xff" * 8 + b"\xc0",
        "a block that claims more": rlp.encode_list([b"\xfb\xff\xff\xff\xff"]),
        "a block beyond its bound": rlp.encode_list([rlp.encode_list([bytes(1 << 25)])]),
        "deep lists": rlp.encode_list([deep]),
        "deep receipts": rlp.encode_list([rlp.encode_list([header, deep])]),
        "countless receipts": rlp.encode_list([rlp.encode_list([header, huge])]),
        "countless fields": rlp.encode_list([rlp.encode_list([huge, b"\xc0"])]),
        "countless blocks": huge,
        "a receipt of 65 nodes": rlp.encode([[fields, [[b"", [b"\xc0"] * 65]]]]),
    }


@pytest.mark.parametrize("what", hostile_ledgers())
def test_a_hostile_ledger_is_found_in_bounded_time_and_memory(
    bundles: Path, tmp_path: Path, what: str
) -> None:
    part = hostile_ledgers()[what]
    path = with_parts(bundles / "light.bundle", tmp_path / "hostile", ledger=part)
    report = bounded(lambda: verify(path))
    assert {step.number for step in report.audit.steps if step.ok is False} == {EVENTS}


def bounded(run: Callable[[], BundleReport]) -> BundleReport:
    """Run with an eye on time and on memory."""
    tracemalloc.start()
    begun = time.monotonic()
    try:
        return run()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < BYTES
        assert time.monotonic() - begun < SECONDS


def blocks_of(path: Path) -> list[rlp.Item]:
    return rlp.as_list(rlp.decode(Opened.read(path.read_bytes()).parts["ledger"]))


def test_a_block_that_is_left_out_is_found(bundles: Path, tmp_path: Path) -> None:
    blocks = blocks_of(bundles / "light.bundle")
    for place in (0, len(blocks) // 2, len(blocks) - 1):
        part = rlp.encode(blocks[:place] + blocks[place + 1 :])
        path = with_parts(bundles / "light.bundle", tmp_path / "short", ledger=part)
        report = verify(path)
        assert {one.step for one in report.audit.findings} == {EVENTS}
        assert "history" in {one.subject for one in report.audit.findings}


def test_a_receipt_that_is_left_out_is_found(bundles: Path, tmp_path: Path) -> None:
    blocks = blocks_of(bundles / "light.bundle")
    header, _ = rlp.as_list(blocks[-1])
    part = rlp.encode([*blocks[:-1], [header, []]])
    path = with_parts(bundles / "light.bundle", tmp_path / "short", ledger=part)
    assert steps_that_fail(path) == {EVENTS}


def test_blocks_in_another_order_are_found(bundles: Path, tmp_path: Path) -> None:
    blocks = blocks_of(bundles / "light.bundle")
    part = rlp.encode([blocks[1], blocks[0], *blocks[2:]])
    path = with_parts(bundles / "light.bundle", tmp_path / "mixed", ledger=part)
    assert steps_that_fail(path) == {EVENTS}


def test_a_blob_in_the_place_of_another_is_found(bundles: Path, tmp_path: Path) -> None:
    was = Opened.read((bundles / "full.bundle").read_bytes())
    one, other = [name for name in was.parts if name.startswith("blob/")][:2]
    path = tmp_path / "swapped"
    changes = {one: was.parts[other], other: was.parts[one]}
    with_parts(bundles / "full.bundle", path, **changes)
    assert BLOBS in steps_that_fail(path)


def test_a_blob_that_is_left_out_is_found(bundles: Path, tmp_path: Path) -> None:
    was = Opened.read((bundles / "full.bundle").read_bytes())
    for name in was.parts:
        if name.startswith("blob/"):
            parts = {key: value for key, value in was.parts.items() if key not in (name, "keys")}
            (tmp_path / "short").write_bytes(Opened(was.header, parts).to_bytes())
            assert BLOBS in steps_that_fail(tmp_path / "short")


def test_a_blob_that_no_round_stands_on_is_found(bundles: Path, tmp_path: Path) -> None:
    was = Opened.read((bundles / "full.bundle").read_bytes())
    store = MemoryBlobStore()
    cid = store.put([b"stowaway"])
    blobs = {**was.parts, f"blob/{cid}": b"stowaway"}
    parts = {"ledger": blobs.pop("ledger"), "keys": blobs.pop("keys")}
    ordered = {"ledger": parts["ledger"], **dict(sorted(blobs.items())), "keys": parts["keys"]}
    (tmp_path / "more").write_bytes(Opened(was.header, ordered).to_bytes())
    assert steps_that_fail(tmp_path / "more") == {BUNDLE}


@pytest.mark.parametrize(
    "keys",
    [
        b"",
        b"[]",
        b"{ }",
        b'{"a":"b"}',
        canonical_json({"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi": "00" * 32}),
    ],
)
def test_keys_of_another_form_are_found(bundles: Path, tmp_path: Path, keys: bytes) -> None:
    path = with_parts(bundles / "full.bundle", tmp_path / "keys", keys=keys)
    assert steps_that_fail(path) == {BUNDLE}


def test_a_key_for_a_blob_by_the_name_of_another_codec_is_found(
    bundles: Path, tmp_path: Path
) -> None:
    was = Opened.read((bundles / "full.bundle").read_bytes())
    name, key = next(iter(json.loads(was.parts["keys"]).items()))
    raw = Cid(RAW, Cid.parse(name).digest)
    blobs = {part: content for part, content in was.parts.items() if part.startswith("blob/")}
    blobs[f"blob/{raw}"] = blobs.pop(f"blob/{name}")
    keys = canonical_json({str(raw): key})
    parts = {"ledger": was.parts["ledger"], **dict(sorted(blobs.items())), "keys": keys}
    (tmp_path / "raw").write_bytes(Opened(was.header, parts).to_bytes())
    assert BUNDLE in steps_that_fail(tmp_path / "raw")


def test_a_key_that_is_left_out_is_found_when_the_round_is_replayed(
    bundles: Path, tmp_path: Path
) -> None:
    path = with_parts(bundles / "full.bundle", tmp_path / "keys", keys=b"{}")
    assert verify(path).audit.ok
    assert main([str(path), "--replay"]) == 1
    from audit.replay import replay_disclosed

    report = verify_bundle(path, workdir=tmp_path / "work", replay=replay_disclosed)
    assert {one.step for one in report.audit.findings} == {REPLAY}


def test_a_light_bundle_cannot_be_replayed(bundles: Path) -> None:
    assert main([str(bundles / "light.bundle"), "--replay"]) == 2


def signed_by(
    was: Opened, names: list[str], *, chain_id: int | None = None, ledger: str | None = None
) -> Opened:
    """Sign the bundle's head anew, perhaps as that of another ledger."""
    head, place = was.header["head"], was.header
    signed = LedgerHead(
        round=int(place["round"]),
        number=int(head["number"]),
        hash=bytes.fromhex(head["hash"]),
        blocks=int(head["blocks"]),
        history=bytes.fromhex(head["history"]),
    )
    where = (chain_id or int(place["chain_id"]), ledger or place["ledger"])
    accounts = sorted(
        (identity(name).account for name in names), key=lambda one: one.address.lower()
    )
    cosignatures = [
        {"signature": sign_head(*where, signed, one).hex(), "witness": str(one.address)}
        for one in sorted(accounts, key=lambda one: str(one.address).lower())
    ]
    return Opened({**place, "cosignatures": cosignatures}, was.parts)


BOTH = ["witness-1", "witness-2"]


@pytest.mark.parametrize(
    ("names", "place"),
    [
        ([], {}),
        (["witness-1"], {}),
        (["hospital-1", "hospital-2"], {}),
        ([*BOTH, "hospital-1"], {}),
        (BOTH, {"chain_id": 1}),
        (BOTH, {"ledger": "0x2d1d2b69B857B11D13F550F887BC3D1eC7D8f248"}),
    ],
)
def test_other_signatures_than_the_quorums_are_found(
    bundles: Path, tmp_path: Path, names: list[str], place: dict[str, Any]
) -> None:
    was = Opened.read((bundles / "light.bundle").read_bytes())
    if place.get("ledger") == was.header["ledger"]:
        place = {"ledger": "0x" + "00" * 20}
    (tmp_path / "signed").write_bytes(signed_by(was, names, **place).to_bytes())
    assert steps_that_fail(tmp_path / "signed") == {HEAD}
    (tmp_path / "signed").write_bytes(signed_by(was, BOTH).to_bytes())
    assert verify(tmp_path / "signed").audit.ok


def test_a_bad_signature_beyond_the_quorum_is_found(bundles: Path, tmp_path: Path) -> None:
    was = Opened.read((bundles / "light.bundle").read_bytes())
    stranger = {"signature": "00" * 64 + "1b", "witness": identity("witness-3").address}
    cosignatures = sorted(
        [*was.header["cosignatures"], stranger], key=lambda one: str(one["witness"]).lower()
    )
    more = Opened({**was.header, "cosignatures": cosignatures}, was.parts)
    (tmp_path / "more").write_bytes(more.to_bytes())
    report = verify(tmp_path / "more")
    assert [(one.step, one.expected) for one in report.audit.findings] == [
        (HEAD, stranger["witness"])
    ]
    assert len(report.signers) == 2


def test_whom_you_insist_on_must_have_signed(bundles: Path) -> None:
    path = bundles / "light.bundle"
    ledger = Opened.read(path.read_bytes()).header["ledger"]
    witnesses = tuple(identity(name).address for name in BOTH)
    assert verify(path, Trust(ledger, witnesses)).audit.ok
    stranger = identity("auditor").address
    assert not verify(path, Trust(ledger, (*witnesses, stranger))).audit.ok
    report = verify(path, Trust(stranger))
    assert {(one.step, one.subject) for one in report.audit.findings} == {(HEAD, "ledger")}
    assert main([str(path), "--ledger", ledger, "--witness", witnesses[0]]) == 0
    assert main([str(path), "--ledger", stranger]) == 1
    assert main([str(path), "--ledger", "stranger"]) == 2


def test_a_ledger_whose_witnesses_nobody_named_is_not_called_good(
    bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(bundles / "light.bundle")
    named = ["--witness", identity(BOTH[0]).address]
    assert main([path, "--ledger", Opened.read(Path(path).read_bytes()).header["ledger"]]) == 0
    told = capsys.readouterr().out
    assert "not anchored" in told
    assert "all is as it should be" not in told
    assert main([path, *named]) == 0
    assert capsys.readouterr().out.endswith("\nall is as it should be\n")
    assert main([path, "--json"]) == main([path, "--json", *named]) == 0
    unnamed, by_name = capsys.readouterr().out.split("\n}\n{")
    assert '"anchored": false' in unnamed
    assert '"anchored": true' in by_name


def test_another_model_is_found(bundles: Path, tmp_path: Path) -> None:
    was = Opened.read((bundles / "light.bundle").read_bytes())
    other = Opened({**was.header, "model": "ab" * 32}, was.parts)
    (tmp_path / "other").write_bytes(other.to_bytes())
    assert steps_that_fail(tmp_path / "other") == {EVENTS}
