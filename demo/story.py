"""The story of `make demo`, told with real parts: nothing in it is staged but the scans.

Hospitals register their data and train together; one sends poison, two cheat in every other way;
witnesses make each round final; an auditor checks it all in a process of its own, and writes a
file by which anybody can, without a network; and then somebody tampers, and is found.
"""

import shutil
import time
from pathlib import Path

from rich.console import Console

from chain.errors import InvalidInputError
from chain.federation import FILE_NAME
from chain.types import Role
from demo import afterwards, bundles, opening, rounds
from demo.headings import heading
from demo.hospitals import HOSPITALS, draw_scans, split_archive
from demo.local import set_up, stop
from demo.report import Report
from demo.stage import SEED, Stage, progress_bar


def tell(
    out: Path, archive: Path | None, *, count: int, keep_running: bool, screen: Console
) -> Report:
    """Tell the whole story.

    Args:
        out: Receives everything; what an earlier story left there is deleted.
        archive: Images in MedMNIST's form, or None for scans with simulated lesions.
        count: How many rounds, at least 3.
        keep_running: Leave chain, IPFS node and server running at the end.
        screen: Where to show how it goes.

    Returns:
        The report, which also lies in ``out/report.json``.

    Raises:
        FedWitnessError: If a part fails, or a cheat succeeds.
    """
    _begin_anew(out)
    started = time.monotonic()
    try:
        stage = _set_the_stage(out.resolve(), archive, count, screen)
        opening.register_data(stage)
        opening.start_parties(stage)
        for number in range(1, count + 1):
            rounds.play_round(stage, number)
        afterwards.measure_baselines(stage)
        afterwards.grant_and_revoke(stage)
        afterwards.audit(stage)
        bundles.bundle_and_verify(stage)
        afterwards.tamper(stage)
        afterwards.sum_up(stage, time.monotonic() - started)
    except BaseException:
        stop(out)
        raise
    if not keep_running:
        stop(out)
    return stage.report


def _begin_anew(out: Path) -> None:
    """Delete an earlier story, and nothing that is not one."""
    if not out.exists():
        return
    ours = (out / FILE_NAME).exists() or (out / "network").exists() or not any(out.iterdir())
    if not ours:
        message = f"{out} holds something else than an earlier demo: give another folder with --out"
        raise InvalidInputError(message)
    stop(out)
    shutil.rmtree(out)


def _set_the_stage(out: Path, archive: Path | None, count: int, screen: Console) -> Stage:
    """Make the hospitals' data and the federation."""
    folder = out / "hospitals"
    # The folder says whose it is before anything else is in it.
    (out / "network").mkdir(parents=True)

    def say(text: str) -> None:
        screen.print(f"  {text}", style="dim", highlight=False)

    heading(screen, "Data")
    if archive is None:
        with progress_bar(screen, "drawing scans with SIMULATED lesions") as advance:
            data = draw_scans(folder, SEED, advance)
    else:
        data = split_archive(archive, folder, SEED)
        say(data.test.notes[0])
    heading(screen, "Federation")
    others = [(afterwards.LIAR, Role.AGGREGATOR), *((name, Role.HOSPITAL) for name in HOSPITALS)]
    local = set_up(out, others, say)
    return Stage(out, count, screen, data, local, local.reader())
