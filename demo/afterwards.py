"""The last acts of the story: baselines, a researcher, the audit, tampering, and the sum."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from aggregator.rounds import RoundPlan, open_round
from chain.canonical import canonical_json
from chain.devnet.anvil import rpc
from chain.types import Purpose, Role
from chain.wire import to_hex
from demo.baselines import measure
from demo.commands import FINDINGS, run
from demo.headings import heading
from demo.hospitals import HONEST
from demo.local import AUDITOR, RESEARCHER, STEWARD
from demo.plots import plot_examples, plot_rounds
from demo.report import AuditSummary, Gas, Tampering
from demo.stage import LEAST_UPDATES, QUORUM, ROUND_SECONDS, TRIM, Stage, UnexpectedEndError
from demo.tampering import changed_row, flipped_byte, propose_wrong_model

LIAR = "usurper"
RULE = canonical_json([{"name": "trimmed_mean", "params": {"f": TRIM}}]).decode()
GRANT_SECONDS = 86_400


def measure_baselines(stage: Stage) -> None:
    """Train on all honest data in one place, and in each honest hospital alone."""
    heading(stage.screen, "Without a federation")
    folder = stage.out / "baselines"
    folder.mkdir()
    datasets = {name: stage.dataset(name) for name in HONEST}
    with stage.screen.status("  training on all data in one place, and alone"):
        stage.report.baselines = measure(
            stage.data, datasets, stage.models[0], stage.rounds, folder
        )
    pooled, alone = stage.report.baselines.pooled, stage.report.baselines.local_mean
    stage.say(f"all data in one place: accuracy {pooled.accuracy:.3f}, AUC {pooled.auc:.3f}")
    stage.say(f"each hospital alone:   accuracy {alone.accuracy:.3f}, AUC {alone.auc:.3f}")


def grant_and_revoke(stage: Stage) -> None:
    """Let a researcher look at a data set, ask what there is to see, and take it back."""
    heading(stage.screen, "A researcher")
    owner = HONEST[0]
    ledger = stage.local.ledger(stage.local.cast[owner])
    grant = ledger.grant_access(
        stage.local.cast[RESEARCHER].address,
        stage.versions[owner],
        None,
        (),
        purpose=int(Purpose.HEALTH_RESEARCH),
        expiry=stage.reader.next_timestamp() + GRANT_SECONDS,
    )
    _show_grants(stage, "given")
    ledger.revoke(grant)
    _show_grants(stage, "revoked")


def _show_grants(stage: Stage, what: str) -> None:
    answer = run("grants", "mine", *stage.local.options(RESEARCHER)).data
    live = [grant for grant in answer["grants"] if grant["live"]]
    stage.say(
        f"grant {what}: at block {answer['block']} the researcher may see {len(live)} data sets"
    )


def audit(stage: Stage) -> None:
    """Audit everything in a process that knows only addresses and the auditor's own key."""
    heading(stage.screen, "Audit")
    answer = _run_audit(stage)
    steps = [step for step in answer["steps"] if step["ok"] is not None]
    stage.report.audit = AuditSummary(
        answer["ok"], len(steps), tuple(_in_words(one) for one in answer["findings"])
    )
    for step in steps:
        stage.say(f"{'[green]ok[/]' if step['ok'] else '[red]no[/]'}  {step['title']}")


def _run_audit(stage: Stage, *options: str) -> Any:
    where = stage.local.addresses
    addresses = ("--rpc", where.rpc_url, "--ipfs", where.ipfs, "--ledger", where.ledger)
    key = stage.local.cast[AUDITOR].keyring.options()
    with tempfile.TemporaryDirectory(prefix="fedwitness-elsewhere-") as elsewhere:
        return run(
            "audit", *addresses, *key, *options, cwd=Path(elsewhere), codes=(0, FINDINGS)
        ).data


def tamper(stage: Stage) -> None:
    """Flip a byte in a blob, change a row, propose a wrong model; audit; put all right."""
    heading(stage.screen, "Tampering")
    number, disputes = _lie(stage)
    honest = stage.record_of(HONEST[1], 1)
    with flipped_byte(stage.local, honest) as cid, changed_row(stage.local, honest) as table:
        findings = _run_audit(stage, *_index_options(stage))["findings"]
    told = {
        f"one bit of the envelope {cid} on the IPFS node's disk": [
            _in_words(one) for one in findings if cid in one["subject"]
        ],
        f"one row of the table {table} in the database": [
            _in_words(one) for one in findings if f"table {table}" in one["subject"]
        ],
        f"a wrong model, proposed by a lying aggregator in round {number}": [
            *disputes,
            *(
                _in_words(one)
                for one in findings
                if one["subject"].startswith(f"round {number}, model of proposal")
            ),
        ],
    }
    for what, found in told.items():
        stage.report.tampering.append(Tampering(what, bool(found), "; ".join(found)))
        stage.say(f"{'[green]found[/]' if found else '[red]missed[/]'}  {what}")
    _put_right(stage, number)


def _index_options(stage: Stage) -> tuple[str, ...]:
    """Return the options that let an audit look at the server's database, too."""
    image_access = stage.local.addresses.image_access
    return ("--database", stage.local.database_url, "--image-access", image_access)


def _lie(stage: Stage) -> tuple[int, list[str]]:
    """Open a round as another aggregator, propose a wrong model, and wait for the dispute."""
    liar = stage.local.cast[LIAR]
    witnesses = tuple(party.address for party in stage.local.cast.of_role(Role.WITNESS))
    counts = (LEAST_UPDATES, len(HONEST), QUORUM, ROUND_SECONDS)
    purpose = int(Purpose.HEALTH_RESEARCH)
    plan = RoundPlan(stage.data.task, purpose, RULE, *counts, witnesses=witnesses)
    with stage.local.blobs() as blobs:
        number = open_round(stage.local.ledger(liar), blobs, plan, None)
    stage.wait_for_updates(number)
    propose_wrong_model(stage.local, liar, number)
    stage.wait(lambda: stage.reader.round(number).disputed, "a witness to dispute")
    disputes = stage.reader.disputes(number)
    names = [stage.local.cast.name_of(dispute.witness) for dispute in disputes]
    return number, [f"{name} disputes the proposal and it cannot become final" for name in names]


def _put_right(stage: Stage, number: int) -> None:
    """Let the steward abort the disputed round, and audit again."""
    steward = stage.local.ledger(stage.local.cast[STEWARD])
    steward.abort(number, "the proposed model is not what the updates come to")
    answer = _run_audit(stage, *_index_options(stage))
    if not answer["ok"]:
        findings = "; ".join(_in_words(one) for one in answer["findings"])
        message = f"everything was put right, but the audit still finds: {findings}"
        raise UnexpectedEndError(message)
    stage.say("byte and row put back, round aborted: the audit passes again")


def _gas(stage: Stage) -> Gas:
    """Read from the receipts what recording cost, alone and in the largest batch."""
    sizes: Counter[bytes] = Counter()
    for number in range(1, stage.reader.round_count() + 1):
        sizes.update(one.position.transaction for one in stage.reader.records(number))
    url = stage.local.addresses.rpc_url
    gas = {
        transaction: int(rpc(url, "eth_getTransactionReceipt", to_hex(transaction))["gasUsed"], 16)
        for transaction in sizes
    }
    alone = [gas[one] for one, size in sizes.items() if size == 1]
    largest = max(sizes.values())
    batched = [gas[one] // size for one, size in sizes.items() if size == largest]
    return Gas(int(median(alone)), int(median(batched)), largest)


def sum_up(stage: Stage, seconds: float) -> None:
    """Write the pictures and the report."""
    stage.report.gas = _gas(stage)
    stage.report.seconds["story"] = round(seconds, 1)
    if stage.report.baselines is None:
        message = "the baselines come before the summary"
        raise AssertionError(message)
    test = stage.data.test
    plot_rounds(
        stage.out / "rounds.png", stage.report.rounds, stage.report.baselines, stage.data.report
    )
    plot_examples(stage.out / "examples.png", test.images, test.labels, stage.data.report)
    stage.report.write(stage.out / "report.json")


def _in_words(finding: Mapping[str, Any]) -> str:
    return f"step {finding['step']}: {finding['subject']}: {finding['message']}"
