"""`python -m audit FILE`: verify an audit bundle on a machine that reaches nobody."""

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from audit.bundle import BundleReport, Replay, Trust, verify_bundle
from chain.addresses import checked_address
from chain.errors import FedWitnessError
from chain.escaping import escaped

WELL, FINDINGS, FAILED = 0, 1, 2

_TOLD = """\
Verifies step by step that a model was made as the file says: each event is proven by a receipt
and a block header, the headers lead to a head that witnesses signed, and what the events say fits
together. No chain, no IPFS node and no network is asked.

What that is worth depends on who the witnesses are. The answer prints the ledger's address and the
witnesses that signed: compare them with those that you know, or give them with --ledger and
--witness. A file made by strangers, with witnesses of their own, is as consistent as an honest one.
"""
# Not that all is well: a ledger that anybody made up holds together, too.
_UNANCHORED = """\
consistent, but not anchored: you named no witness, and anyone can make up a ledger that holds
together. Compare ledger and witnesses above with those that you know, or name them (--witness)."""
_AFTER = """\
exit codes: 0 nothing is amiss, which says whose ledger it is only with --witness; 1 there are
findings, each named; 2 the file is no bundle, or cannot be read.

examples:
  python -m audit model-light.bundle --ledger 0x… --witness 0x… --witness 0x…
  python -m audit model-full.bundle --replay --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: The command line behind the program's name; None for the process's own.
    """
    options = _parser().parse_args(arguments)
    try:
        trust = Trust(
            checked_address(options.ledger) if options.ledger is not None else None,
            tuple(map(checked_address, options.witness)),
        )
        with tempfile.TemporaryDirectory(prefix="fedwitness-bundle-") as folder:
            replay = _replay(options.threads) if options.replay else None
            report = verify_bundle(options.file, trust, workdir=Path(folder), replay=replay)
    except (FedWitnessError, OSError) as error:
        _fail(error, as_json=options.json)
        return FAILED
    anchored = bool(trust.witnesses)
    as_dict = {**report.to_dict(), "anchored": anchored}
    told = json.dumps(as_dict, indent=2) if options.json else _in_words(report, anchored=anchored)
    sys.stdout.write(f"{told}\n")
    return WELL if report.audit.ok else FINDINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit",
        description=_TOLD,
        epilog=_AFTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the bundle")
    parser.add_argument(
        "--replay",
        action="store_true",
        help="repeat admission and aggregation too; needs a full bundle that an auditor opened",
    )
    parser.add_argument("--ledger", metavar="ADDR", help="insist on this RoundLedger")
    parser.add_argument(
        "--witness",
        metavar="ADDR",
        action="append",
        default=[],
        help="insist that this witness signed the ledger's head; may be repeated",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads that aggregate (1)")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


def _replay(threads: int) -> Replay:
    # Aggregation needs compiled code, which nothing else here does.
    from audit.replay import replay_disclosed

    return functools.partial(replay_disclosed, threads=threads)


def _fail(error: Exception, *, as_json: bool) -> None:
    if as_json:
        told = json.dumps({"error": type(error).__name__, "message": escaped(str(error))})
        sys.stdout.write(f"{told}\n")
    else:
        sys.stderr.write(f"error: {escaped(str(error))}\n")


def _in_words(report: BundleReport, *, anchored: bool) -> str:
    header, head = report.header, report.header.head
    signed = f"{len(report.signers)} of {len(report.witnesses)} witnesses"
    opened = ", opened" if report.is_opened else ""
    lines = [
        f"model    0x{header.model.hex()}",
        f"made in  round {head.round} of {escaped(report.task) or '?'}; {report.rounds} rounds",
        f"chain    {header.chain_id}, head {head.number} 0x{head.hash.hex()}",
        f"ledger   {header.ledger}",
        f"signed   by {signed}, quorum {report.quorum}",
        *(f"         {one}" for one in report.signers),
        f"holds    {head.blocks} blocks, {report.events} events; {header.mode.value}{opened}",
        "",
    ]
    words = {True: "ok      ", False: "FINDINGS", None: "not run "}
    lines += [f"{words[step.ok]} {step.number:>2} {step.title}" for step in report.audit.steps]
    for one in report.audit.findings:
        lines += [
            "",
            f"({one.step}) {escaped(one.subject)}: {one.message}",
            f"    expected {escaped(one.expected)}",
            f"    found    {escaped(one.found)}",
        ]
    notices = [one.message for one in report.audit.notices]
    notes = [*(f"notice: {one}" for one in notices), *(f"note: {one}" for one in report.notes)]
    lines += ["", *map(escaped, notes)] if notes else []
    well = "all is as it should be" if anchored else _UNANCHORED
    lines += ["", well if report.audit.ok else "there are findings"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
