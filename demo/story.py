"""The story of `make demo`, told with real parts: nothing in it is staged but the scans.

Hospitals register their data and train together; one sends poison, two cheat in every other way;
witnesses make each round final; an auditor checks it all in a process of its own; and then
somebody tampers, and is found.
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aggregator.rounds import RoundPlan, open_round
from chain.canonical import canonical_json
from chain.cid import Cid
from chain.devnet.anvil import rpc
from chain.devnet.process import wait_until
from chain.errors import FedWitnessError, InvalidInputError
from chain.ledger import LedgerReader
from chain.types import (
    Outcome,
    Phase,
    Purpose,
    Reason,
    RecordedUpdate,
    Role,
    Round,
    Verdict,
)
from chain.wire import from_hex, to_hex
from demo.attempts import attempts_of_round, poisoned, tricks_of_round
from demo.baselines import measure, score
from demo.commands import FINDINGS, run, run_all
from demo.federation import FILE_NAME
from demo.hospitals import (
    HONEST,
    HOSPITALS,
    POISONER,
    WORKERS,
    DemoData,
    draw_scans,
    planted_words,
    split_archive,
)
from demo.local import (
    AUDITOR,
    RESEARCHER,
    STEWARD,
    LocalFederation,
    set_up,
    start_aggregator,
    start_staff,
    stop,
)
from demo.plots import plot_examples, plot_rounds
from demo.report import (
    Attempt,
    AuditSummary,
    Gas,
    Rejection,
    Report,
    RoundReport,
    Tampering,
)
from demo.scene import Scene
from demo.tampering import changed_row, flipped_byte, propose_wrong_model
from node.dataset import CommittedDataset, load_dataset
from node.training import initial_model, train

SEED = 2026
LIAR = "usurper"
TRIM = 1
RULE = canonical_json({"name": "trimmed_mean", "params": {"f": TRIM}}).decode()
LEAST_UPDATES = 2 * TRIM + 1
ROUND_SECONDS = 900  # for collecting; a round ends earlier, with its last record
PATIENCE = 300.0  # seconds for aggregator and witnesses
MAX_MODEL = 1 << 26  # bytes
GRANT_SECONDS = 86_400


class UnexpectedVerdictError(FedWitnessError):
    """The federation came to another end than it must: FedWitness is broken, and the story ends."""


def tell(
    out: Path, archive: Path | None, *, rounds: int, keep_running: bool, screen: Console
) -> Report:
    """Tell the whole story.

    Args:
        out: Receives everything; what an earlier story left there is deleted.
        archive: Images in MedMNIST's form, or None for scans with simulated lesions.
        rounds: How many rounds, at least 3.
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
        story = _set_the_stage(out.resolve(), archive, rounds, screen)
        story.register_data()
        story.start_parties()
        for number in range(1, rounds + 1):
            story.play_round(number)
        story.measure_baselines()
        story.grant_and_revoke()
        story.audit()
        story.tamper()
        story.sum_up(time.monotonic() - started)
    except BaseException:
        stop(out)
        raise
    if not keep_running:
        stop(out)
    return story.report


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


def _set_the_stage(out: Path, archive: Path | None, rounds: int, screen: Console) -> "Story":
    """Make the hospitals' data and the federation."""
    folder = out / "hospitals"
    # The folder says whose it is before anything else is in it.
    (out / "network").mkdir(parents=True)

    def say(text: str) -> None:
        screen.print(f"  {text}", style="dim", highlight=False)

    screen.rule("[bold]Data[/]", align="left")
    if archive is None:
        with _bar(screen, "drawing scans with SIMULATED lesions") as advance:
            data = draw_scans(folder, SEED, advance)
    else:
        data = split_archive(archive, folder, SEED)
        say(data.test.notes[0])
    screen.rule("[bold]Federation[/]", align="left")
    others = [(LIAR, Role.AGGREGATOR), *((name, Role.HOSPITAL) for name in HOSPITALS)]
    local = set_up(out, others, say)
    return Story(out, rounds, screen, data, local, local.reader())


@contextmanager
def _bar(screen: Console, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda count: bars.advance(bar, count)


@dataclass(slots=True)
class Story:
    """The state of the story between its acts.

    Attributes:
        out: Its folder.
        rounds: How many rounds it has.
        screen: Where it is told.
        data: What the hospitals have.
        local: The federation.
        reader: The ledger.
        report: What came of it so far.
        versions: Each hospital's data-set version, by name.
        models: The model that each round made, by round; 0 is the first model.
    """

    out: Path
    rounds: int
    screen: Console
    data: DemoData
    local: LocalFederation
    reader: LedgerReader
    report: Report = field(default_factory=Report)
    versions: dict[str, bytes] = field(default_factory=dict)
    models: dict[int, Path] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Say a line; markup is allowed."""
        self.screen.print(f"  {text}", highlight=False)

    def register_data(self) -> None:
        """Let every hospital de-identify, commit and register its data."""
        self.screen.rule("[bold]Data sets[/]", align="left")
        self.report.dataset = self.data.report
        purpose = ("--purpose", str(int(Purpose.HEALTH_RESEARCH)))
        commands = {
            name: (
                *("hospital", "register", *self.local.options(name), *purpose),
                *("--data", str(self.data.sources[name]), "--name", f"{name}-images"),
            )
            for name in HOSPITALS
        }
        with _bar(self.screen, "removing identity and registering", len(commands)) as advance:
            answers = run_all(commands, WORKERS, lambda _: advance(1))
        for name, answer in answers.items():
            self.versions[name] = from_hex(answer["version"])
        images = sum(answer["images"] for answer in answers.values())
        self.say(f"{len(answers)} hospitals registered {images} images")
        self._check_identities()

    def _check_identities(self) -> None:
        """Look for every planted name and number in what the hospitals train from."""
        words = {name: planted_words(self.data.sources[name]) for name in HOSPITALS}
        for name, planted in words.items():
            kept = self._dataset_file(name).read_bytes()
            found = [word for word in planted if word in kept]
            if found:
                message = f"{len(found)} identities of patients of {name} are left in its data"
                raise UnexpectedVerdictError(message)
        count = sum(map(len, words.values()))
        if count:
            self.say(f"{count} planted names, numbers and addresses: none is left in the data sets")

    def start_parties(self) -> None:
        """Start server, witnesses and aggregator, each as a process of its own."""
        self.screen.rule("[bold]Processes[/]", align="left")
        self.local = start_staff(self.local, lambda text: self.say(f"[dim]{text}[/]"))
        self.models[0] = self.out / "model-0.safetensors"
        initial_model(self.data.task, SEED, self.models[0])
        options = {
            "--rounds": self.rounds,
            "--model": self.models[0],
            "--rule": "trimmed_mean",
            "--trim": TRIM,
            "--min-updates": LEAST_UPDATES,
            "--max-updates": len(HOSPITALS),
            "--quorum": 2,
            "--collecting-seconds": ROUND_SECONDS,
        }
        words = [str(word) for option in options.items() for word in option]
        start_aggregator(self.local, self.data.task, *words)

    def play_round(self, number: int) -> None:
        """Play the n-th round: train, poison, cheat, aggregate, witness, judge the model."""
        self.screen.rule(f"[bold]Round {number}[/]", align="left")
        clock = _Clock()
        opened = self._wait_for_round(number)
        scene = self._scene(opened)
        clock.lap("open")
        self._train(scene)
        clock.lap("train_and_send")
        self._cheat(scene, number)
        clock.lap("cheat")
        self._wait_for(number, Phase.PROPOSED, Phase.FINAL)
        clock.lap("admit_and_aggregate")
        final = self._wait_for(number, Phase.FINAL)
        clock.lap("witness")
        self._judge(final, scene, clock)

    def measure_baselines(self) -> None:
        """Train on all honest data in one place, and in each honest hospital alone."""
        self.screen.rule("[bold]Without a federation[/]", align="left")
        folder = self.out / "baselines"
        folder.mkdir()
        datasets = {name: self._dataset(name) for name in HONEST}
        with self.screen.status("  training on all data in one place, and alone"):
            self.report.baselines = measure(
                self.data, datasets, self.models[0], self.rounds, folder
            )
        pooled, alone = self.report.baselines.pooled, self.report.baselines.local_mean
        self.say(f"all data in one place: accuracy {pooled.accuracy:.3f}, AUC {pooled.auc:.3f}")
        self.say(f"each hospital alone:   accuracy {alone.accuracy:.3f}, AUC {alone.auc:.3f}")

    def grant_and_revoke(self) -> None:
        """Let a researcher look at a data set, ask what there is to see, and take it back."""
        self.screen.rule("[bold]A researcher[/]", align="left")
        owner = HONEST[0]
        ledger = self.local.ledger(self.local.cast[owner])
        grant = ledger.grant_access(
            self.local.cast[RESEARCHER].address,
            self.versions[owner],
            None,
            (),
            purpose=int(Purpose.HEALTH_RESEARCH),
            expiry=self.reader.next_timestamp() + GRANT_SECONDS,
        )
        self._show_grants("given")
        ledger.revoke(grant)
        self._show_grants("revoked")

    def audit(self) -> None:
        """Audit everything in a process that knows only addresses and the auditor's own key."""
        self.screen.rule("[bold]Audit[/]", align="left")
        answer = self._run_audit()
        steps = [step for step in answer["steps"] if step["ok"] is not None]
        self.report.audit = AuditSummary(
            answer["ok"], len(steps), tuple(_in_words(one) for one in answer["findings"])
        )
        for step in steps:
            self.say(f"{'[green]ok[/]' if step['ok'] else '[red]no[/]'}  {step['title']}")

    def tamper(self) -> None:
        """Flip a byte in a blob, change a row, propose a wrong model; audit; put all right."""
        self.screen.rule("[bold]Tampering[/]", align="left")
        number, disputes = self._lie()
        honest = self._record_of(HONEST[1], 1)
        with flipped_byte(self.local, honest) as cid, changed_row(self.local, honest) as table:
            findings = self._run_audit("--database", self.local.database_url)["findings"]
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
            self.report.tampering.append(Tampering(what, bool(found), "; ".join(found)))
            self.say(f"{'[green]found[/]' if found else '[red]missed[/]'}  {what}")
        self._put_right(number)

    def sum_up(self, seconds: float) -> None:
        """Write the pictures and the report."""
        self.report.gas = self._gas()
        self.report.seconds["story"] = round(seconds, 1)
        if self.report.baselines is None:
            message = "the baselines come before the summary"
            raise AssertionError(message)
        test = self.data.test
        plot_rounds(
            self.out / "rounds.png", self.report.rounds, self.report.baselines, self.data.report
        )
        plot_examples(self.out / "examples.png", test.images, test.labels, self.data.report)
        self.report.write(self.out / "report.json")

    # The parts of a round

    def _wait_for_round(self, number: int) -> Round:
        found: list[Round] = []

        def is_open() -> bool:
            active = self.reader.active_round(self.data.task)
            if active is not None and active.number == number:
                found.append(active)
            return bool(found)

        self._wait(is_open, f"round {number} to open")
        return found[0]

    def _scene(self, opened: Round) -> Scene:
        base = self.out / f"base-{opened.number}.safetensors"
        with self.local.blobs() as blobs:
            blobs.fetch(Cid.from_blob_digest(opened.terms.base_blob), base, MAX_MODEL)
        folder = self.out / "cheats"
        folder.mkdir(exist_ok=True)
        return Scene(self.local, opened, self.reader, self.versions, folder, base)

    def _train(self, scene: Scene) -> None:
        commands = {name: self._train_command(name) for name in HONEST}
        with (
            ThreadPoolExecutor(1) as pool,
            _bar(self.screen, "training and sending", len(HONEST) + 1) as advance,
        ):
            poison = pool.submit(self._poison, scene)
            run_all(commands, WORKERS, lambda _: advance(1))
            poison.result()
            run(*self._train_command(POISONER))
        self.say(f"{len(HONEST)} hospitals trained and sent; {POISONER} sent poison")

    def _train_command(self, name: str) -> tuple[str, ...]:
        return ("hospital", "train-once", *self.local.options(name), "--task", self.data.task)

    def _poison(self, scene: Scene) -> None:
        """Put a poisoned update where the poisoner's own software takes it for the trained one.

        Whoever owns a machine decides what it sends: nothing but the rule can help here.
        """
        place = f"{scene.reader.chain_id}-{scene.reader.address}"
        work = self.local.cast[POISONER].keyring.work
        folder = work / "rounds" / place / str(scene.round.number)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        data, honest = self._dataset(POISONER), scene.folder / "honest.safetensors"
        train(self.data.task, scene.base, data.images, data.labels, honest, SEED)
        poisoned(scene.base, honest, folder / "update.safetensors")

    def _cheat(self, scene: Scene, number: int) -> None:
        for attempt in attempts_of_round(scene, number):
            self._tell_attempt(attempt)
        for trick in tricks_of_round(number):
            trick.play(scene)

    def _judge(self, final: Round, scene: Scene, clock: "_Clock") -> None:
        number = final.number
        if final.proposal is None:
            message = f"round {number} is final without a proposal"
            raise UnexpectedVerdictError(message)
        self.models[number] = self.out / f"model-{number}.safetensors"
        blob = Cid.from_blob_digest(final.proposal.model_blob)
        with self.local.blobs() as blobs:
            blobs.fetch(blob, self.models[number], MAX_MODEL)
        result = score(self.data, self.models[number])
        clock.lap("judge")
        verdicts = self.reader.verdicts(number, final.proposal.number)
        self._tell_verdicts(number, verdicts)
        refused = [one for one in self.report.attempts if one.round == number]
        self.report.rounds.append(
            RoundReport(
                round=number,
                model_digest=to_hex(final.proposal.model),
                accuracy=result.accuracy,
                auc=result.auc,
                accepted=sum(one.outcome is Outcome.ACCEPTED for one in verdicts),
                rejected=tuple(
                    Rejection(one.hospital, one.reason, one.by)
                    for one in refused
                    if one.by != "server"
                ),
                seconds=clock.laps,
            )
        )
        self.say(
            f"[bold]final[/] by {final.attestations} of {len(final.terms.witnesses)} witnesses: "
            f"accuracy {result.accuracy:.3f}, AUC {result.auc:.3f}"
        )

    def _tell_verdicts(self, number: int, verdicts: Sequence[Verdict]) -> None:
        tricks = {trick.cheat: trick.what for trick in tricks_of_round(number)}
        cast = self.local.cast
        for verdict in verdicts:
            name = cast.name_of(verdict.hospital)
            what = tricks.get(name, "poison (inner-product manipulation)")
            if verdict.outcome is not Outcome.ACCEPTED:
                by = "rule" if verdict.reason is Reason.TRIMMED_BY_RULE else "admission"
                self._tell_attempt(Attempt(number, name, what, verdict.reason.name, by))  # type: ignore[arg-type]
        accepted = {cast.name_of(v.hospital) for v in verdicts if v.outcome is Outcome.ACCEPTED}
        if accepted != set(HONEST):
            message = f"round {number}: expected {sorted(HONEST)} to be accepted, found {sorted(accepted)}"
            raise UnexpectedVerdictError(message)

    def _tell_attempt(self, attempt: Attempt) -> None:
        self.report.attempts.append(attempt)
        self.say(
            f"[yellow]refused[/]  {attempt.hospital}: {attempt.attempt}  "
            f"[dim]({attempt.by}: {attempt.reason})[/]"
        )

    # The parts of the later acts

    def _show_grants(self, what: str) -> None:
        answer = run("grants", "mine", *self.local.options(RESEARCHER)).data
        live = [grant for grant in answer["grants"] if grant["live"]]
        self.say(
            f"grant {what}: at block {answer['block']} the researcher may see {len(live)} data sets"
        )

    def _run_audit(self, *options: str) -> Any:
        where = self.local.addresses
        addresses = ("--rpc", where.rpc_url, "--ipfs", where.ipfs, "--ledger", where.ledger)
        key = self.local.cast[AUDITOR].keyring.options()
        with tempfile.TemporaryDirectory(prefix="fedwitness-elsewhere-") as elsewhere:
            return run(
                "audit", *addresses, *key, *options, cwd=Path(elsewhere), codes=(0, FINDINGS)
            ).data

    def _lie(self) -> tuple[int, list[str]]:
        """Open a round as another aggregator, propose a wrong model, and wait for the dispute."""
        liar, few = self.local.cast[LIAR], HONEST[:LEAST_UPDATES]
        witnesses = tuple(party.address for party in self.local.cast.of_role(Role.WITNESS))
        counts = (LEAST_UPDATES, len(few), 2, ROUND_SECONDS)
        purpose = int(Purpose.HEALTH_RESEARCH)
        plan = RoundPlan(self.data.task, purpose, RULE, *counts, witnesses=witnesses)
        with self.local.blobs() as blobs:
            number = open_round(self.local.ledger(liar), blobs, plan, None)
        with _bar(self.screen, "training for a lying aggregator", len(few)) as advance:
            commands = {name: self._train_command(name) for name in few}
            run_all(commands, WORKERS, lambda _: advance(1))
        propose_wrong_model(self.local, liar, number)
        self._wait(lambda: self.reader.round(number).disputed, "a witness to dispute")
        disputes = self.reader.disputes(number)
        names = [self.local.cast.name_of(dispute.witness) for dispute in disputes]
        return number, [
            f"{name} disputes the proposal and it cannot become final" for name in names
        ]

    def _put_right(self, number: int) -> None:
        """Let the steward abort the disputed round, and audit again."""
        steward = self.local.ledger(self.local.cast[STEWARD])
        steward.abort(number, "the proposed model is not what the updates come to")
        answer = self._run_audit("--database", self.local.database_url)
        if not answer["ok"]:
            findings = "; ".join(_in_words(one) for one in answer["findings"])
            message = f"everything was put right, but the audit still finds: {findings}"
            raise UnexpectedVerdictError(message)
        self.say("byte and row put back, round aborted: the audit passes again")

    def _gas(self) -> Gas:
        """Read from the receipts what recording cost, alone and in the largest batch."""
        sizes: Counter[bytes] = Counter()
        for number in range(1, self.reader.round_count() + 1):
            sizes.update(one.position.transaction for one in self.reader.records(number))
        url = self.local.addresses.rpc_url
        gas = {
            transaction: int(
                rpc(url, "eth_getTransactionReceipt", to_hex(transaction))["gasUsed"], 16
            )
            for transaction in sizes
        }
        alone = [gas[one] for one, size in sizes.items() if size == 1]
        largest = max(sizes.values())
        batched = [gas[one] // size for one, size in sizes.items() if size == largest]
        return Gas(int(median(alone)), int(median(batched)), largest)

    def _dataset_file(self, name: str) -> Path:
        return self.local.cast[name].keyring.work / "datasets" / f"{name}-images.npz"

    def _dataset(self, name: str) -> CommittedDataset:
        return load_dataset(self._dataset_file(name))

    def _record_of(self, name: str, number: int) -> RecordedUpdate:
        address = self.local.cast[name].address
        records = self.reader.records(number)
        return next(one for one in records if one.record.hospital == address)

    def _wait_for(self, number: int, *phases: Phase) -> Round:
        names = " or ".join(phase.name.lower() for phase in phases)
        self._wait(
            lambda: self.reader.round(number).phase in phases, f"round {number} to be {names}"
        )
        return self.reader.round(number)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self.screen.status(f"  waiting for {what}"):
            if not wait_until(condition, seconds=PATIENCE):
                logs = self.out / "processes"
                message = f"waited {PATIENCE:.0f} s for {what}: the logs in {logs} tell why"
                raise UnexpectedVerdictError(message)


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


def _in_words(finding: Mapping[str, Any]) -> str:
    return f"step {finding['step']}: {finding['subject']}: {finding['message']}"
