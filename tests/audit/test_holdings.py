"""What rounds stand on is fetched once, however often a ledger names it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.progress import unheard
from audit.holdings import Holdings
from audit.reading import read_evidence
from chain.blob_store import BlobReader
from chain.cid import Cid
from chain.errors import BlobUnavailableError
from chain.files import private_folder
from tests.aggregator.training import Training


class Counting:
    """A blob store that counts what is fetched, and may have lost some of it."""

    def __init__(self, blobs: BlobReader, lost: frozenset[bytes]) -> None:
        self._blobs = blobs
        self._lost = lost
        self.fetched = Counter[bytes]()

    def fetch(self, cid: Cid, path: Path, max_bytes: int) -> None:
        self.fetched[cid.digest] += 1
        if cid.digest in self._lost:
            raise BlobUnavailableError("lost")
        self._blobs.fetch(cid, path, max_bytes)


@pytest.mark.parametrize("lost", [False, True])
def test_an_envelope_that_many_records_name_is_fetched_once_and_told_of_each(
    training: Training, tmp_path: Path, *, lost: bool
) -> None:
    training.finish(training.open_round())
    reader = training.federation.reader
    task = reader.round(1).terms.task
    (evidence,) = read_evidence(reader, task)
    first = evidence.records[0].record.blob
    blobs = Counting(training.blobs, frozenset({first} if lost else ()))
    holdings = Holdings(reader, blobs, private_folder(tmp_path / "held"), unheard)  # type: ignore[arg-type]
    named = replace(evidence, records=evidence.records * 5)
    findings = [*holdings.check(named), *holdings.check(named)]
    assert {blobs.fetched[one.record.blob] for one in evidence.records} == {1}
    hospital, cid = evidence.records[0].record.hospital, Cid.from_blob_digest(first)
    subject = f"round 1, envelope of {hospital}, blob {cid}"
    assert [one.subject for one in findings] == ([subject] * 10 if lost else [])
