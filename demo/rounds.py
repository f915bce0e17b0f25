"""A round of the story: train, poison, cheat, aggregate, witness, and judge the model."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from chain.cid import Cid
from chain.types import Outcome, Phase, Reason, Round, Verdict
from chain.wire import to_hex
from demo.attempts import attempts_of_round, play, poisoned, tricks_of_round
from demo.baselines import score
from demo.commands import run
from demo.headings import heading
from demo.hospitals import HONEST, POISONER
from demo.report import Attempt, Rejection, RoundReport
from demo.scene import Scene
from demo.stage import MAX_MODEL, SEED, Stage, UnexpectedEndError
from node.training import train


def play_round(stage: Stage, number: int) -> None:
    """Play the n-th round: train, poison, cheat, aggregate, witness, judge the model."""
    heading(stage.screen, f"Round {number}")
    clock = _Clock()
    opened = _wait_for_round(stage, number)
    scene = _scene(stage, opened)
    clock.lap("open")
    _train(stage, scene)
    clock.lap("train_and_send")
    _cheat(stage, scene, number)
    clock.lap("cheat")
    _wait_for(stage, number, Phase.PROPOSED, Phase.FINAL)
    clock.lap("admit_and_aggregate")
    final = _wait_for(stage, number, Phase.FINAL)
    clock.lap("witness")
    _judge(stage, final, clock)


def _wait_for_round(stage: Stage, number: int) -> Round:
    found: list[Round] = []

    def is_open() -> bool:
        active = stage.reader.active_round(stage.data.task)
        if active is not None and active.number == number:
            found.append(active)
        return bool(found)

    stage.wait(is_open, f"round {number} to open")
    return found[0]


def _scene(stage: Stage, opened: Round) -> Scene:
    base = stage.out / f"base-{opened.number}.safetensors"
    with stage.local.blobs() as blobs:
        blobs.fetch(Cid.from_blob_digest(opened.terms.base_blob), base, MAX_MODEL)
    folder = stage.out / "cheats"
    folder.mkdir(exist_ok=True)
    return Scene(stage.local, opened, stage.reader, stage.versions, folder, base)


def _train(stage: Stage, scene: Scene) -> None:
    with ThreadPoolExecutor(1) as pool:
        poison = pool.submit(_poison, stage, scene)
        stage.wait_for_updates(scene.round.number)
        poison.result()
    options = (*stage.local.options(POISONER), "--task", stage.data.task)
    run("hospital", "train-once", *options)
    stage.say(f"{len(HONEST)} hospitals trained and sent; {POISONER} sent poison")


def _poison(stage: Stage, scene: Scene) -> None:
    """Put a poisoned update where the poisoner's own software takes it for the trained one.

    Whoever owns a machine decides what it sends: nothing but the rule can help here.
    """
    place = f"{scene.reader.chain_id}-{scene.reader.address}"
    work = stage.local.cast[POISONER].keyring.work
    folder = work / "rounds" / place / str(scene.round.number)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data, honest = stage.dataset(POISONER), scene.folder / "honest.safetensors"
    train(stage.data.task, scene.base, data.images, data.labels, honest, SEED)
    poisoned(scene.base, honest, folder / "update.safetensors")


def _cheat(stage: Stage, scene: Scene, number: int) -> None:
    for attempt in attempts_of_round(scene, number):
        stage.tell_attempt(attempt)
    play(scene, tricks_of_round(number))


def _judge(stage: Stage, final: Round, clock: "_Clock") -> None:
    number = final.number
    if final.proposal is None:
        message = f"round {number} is final without a proposal"
        raise UnexpectedEndError(message)
    stage.models[number] = stage.out / f"model-{number}.safetensors"
    blob = Cid.from_blob_digest(final.proposal.model_blob)
    with stage.local.blobs() as blobs:
        blobs.fetch(blob, stage.models[number], MAX_MODEL)
    result = score(stage.data, stage.models[number])
    clock.lap("judge")
    verdicts = stage.reader.verdicts(number, final.proposal.number)
    _tell_verdicts(stage, number, verdicts)
    refused = [one for one in stage.report.attempts if one.round == number]
    stage.report.rounds.append(
        RoundReport(
            round=number,
            model_digest=to_hex(final.proposal.model),
            accuracy=result.accuracy,
            auc=result.auc,
            accepted=sum(one.outcome is Outcome.ACCEPTED for one in verdicts),
            rejected=tuple(
                Rejection(one.hospital, one.reason, one.by) for one in refused if one.by != "server"
            ),
            seconds=clock.laps,
        )
    )
    _claim(stage, number, result.accuracy)
    stage.say(
        f"[bold]final[/] by {final.attestations} of {len(final.terms.witnesses)} witnesses: "
        f"accuracy {result.accuracy:.3f}, AUC {result.auc:.3f}"
    )


def _claim(stage: Stage, number: int, accuracy: float) -> None:
    """Tell the server's pages how well a model does; nothing on the ledger proves it."""
    claim = {"accuracy": accuracy, "round": number, "source": "the demo, on its test images"}
    with stage.local.accuracies.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(claim)}\n")


def _tell_verdicts(stage: Stage, number: int, verdicts: Sequence[Verdict]) -> None:
    tricks = {trick.cheat: trick.what for trick in tricks_of_round(number)}
    cast = stage.local.cast
    for verdict in verdicts:
        name = cast.name_of(verdict.hospital)
        what = tricks.get(name, "poison (inner-product manipulation)")
        if verdict.outcome is not Outcome.ACCEPTED:
            by = "rule" if verdict.reason is Reason.TRIMMED_BY_RULE else "admission"
            stage.tell_attempt(Attempt(number, name, what, verdict.reason.name, by))  # type: ignore[arg-type]
    accepted = {cast.name_of(v.hospital) for v in verdicts if v.outcome is Outcome.ACCEPTED}
    if accepted != set(HONEST):
        message = (
            f"round {number}: expected {sorted(HONEST)} to be accepted, found {sorted(accepted)}"
        )
        raise UnexpectedEndError(message)


def _wait_for(stage: Stage, number: int, *phases: Phase) -> Round:
    names = " or ".join(phase.name.lower() for phase in phases)
    stage.wait(lambda: stage.reader.round(number).phase in phases, f"round {number} to be {names}")
    return stage.reader.round(number)


class _Clock:
    """Measures stages, in seconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 2)
        self._last = now
