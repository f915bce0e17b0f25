"""The ledger client against the real contracts on anvil."""

from chain.signing import update_struct_hash
from chain.types import Phase
from tests.federation import HOSPITALS, TASK, WITNESSES, Federation, digest


def test_a_round_goes_from_open_to_final(federation: Federation) -> None:
    reader, number = federation.reader, federation.open_round()
    assert reader.round(number).phase is Phase.OPEN
    federation.record_all(number)
    assert reader.round(number).phase is Phase.COLLECTING
    federation.propose(number)
    federation.attest(number, WITNESSES[0])
    assert reader.round(number).attestations == 1
    federation.attest(number, WITNESSES[1])

    found = reader.round(number)
    assert found.phase is Phase.FINAL
    assert reader.last_final(TASK) == (digest("model"), digest("model blob"), number)
    assert reader.active_round(TASK) is None
    assert reader.verdicts(number, 1) == federation.verdicts()


def test_a_record_read_back_hashes_to_what_the_ledger_keeps(federation: Federation) -> None:
    number = federation.open_round()
    federation.record_all(number)
    records = federation.reader.records(number)
    assert [item.record for item in records] == [federation.record(n, number) for n in HOSPITALS]
    assert all(update_struct_hash(item.record) == item.record_digest for item in records)
