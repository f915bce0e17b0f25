"""`fedwitness audit` where there is little to audit."""

from tests.cli.conftest import run
from tests.federation import Federation


def test_a_federation_without_rounds_passes_and_says_what_was_not_run(
    federation: Federation, ipfs: str
) -> None:
    code, report = run(federation, "audit", "--ipfs", ipfs)
    assert code == 0, report
    assert report["ok"]
    assert {step["title"] for step in report["steps"] if step["ok"] is not None} == {
        "The chain still has every head that was seen before"
    }
