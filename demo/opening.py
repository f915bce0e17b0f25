"""The first acts of the story: data sets and processes."""

from dataclasses import replace

from chain.types import Purpose
from chain.wire import from_hex
from demo.commands import run_all
from demo.headings import heading
from demo.hospitals import HONEST, HOSPITALS, WORKERS, planted_words
from demo.local import start_aggregator, start_process, start_staff
from demo.stage import LEAST_UPDATES, QUORUM, ROUND_SECONDS, SEED, TRIM, Stage, UnexpectedEndError
from node.training import initial_model


def register_data(stage: Stage) -> None:
    """Let every hospital de-identify, commit and register its data."""
    heading(stage.screen, "Data sets")
    purpose = ("--purpose", str(int(Purpose.HEALTH_RESEARCH)))
    commands = {
        name: (
            *("hospital", "register", *stage.local.options(name), *purpose),
            *("--data", str(stage.data.sources[name]), "--name", f"{name}-images"),
        )
        for name in HOSPITALS
    }
    with stage.bar("removing identity and registering", len(commands)) as advance:
        answers = run_all(commands, WORKERS, lambda _: advance(1))
    for name, answer in answers.items():
        stage.versions[name] = from_hex(answer["version"])
    images = sum(answer["images"] for answer in answers.values())
    held = stage.data.report.images - images
    told = f", and held {held} back for a person: there may be text in them" if held else ""
    stage.say(f"{len(answers)} hospitals registered {images} images{told}")
    stage.report.dataset = replace(stage.data.report, images=images)
    _check_identities(stage)


def _check_identities(stage: Stage) -> None:
    """Look for every planted name and number in what the hospitals train from."""
    words = {name: planted_words(stage.data.sources[name]) for name in HOSPITALS}
    for name, planted in words.items():
        kept = stage.dataset_file(name).read_bytes()
        found = [word for word in planted if word in kept]
        if found:
            message = f"{len(found)} identities of patients of {name} are left in its data"
            raise UnexpectedEndError(message)
    count = sum(map(len, words.values()))
    if count:
        stage.say(f"{count} planted names, numbers and addresses: none is left in the data sets")


def start_parties(stage: Stage) -> None:
    """Start server, witnesses, honest hospitals and aggregator, each as a process of its own."""
    heading(stage.screen, "Processes")
    stage.local = start_staff(stage.local, lambda text: stage.say(f"[dim]{text}[/]"))
    for name in HONEST:
        joined = (*stage.local.options(name), "--task", stage.data.task)
        start_process(stage.local, name, ("hospital", "join", *joined))
    stage.say(f"[dim]starting {', '.join(HONEST)}[/]")
    stage.models[0] = stage.out / "model-0.safetensors"
    initial_model(stage.data.task, SEED, stage.models[0])
    options = {
        "--rounds": stage.rounds,
        "--model": stage.models[0],
        "--rule": "trimmed_mean",
        "--param": f"f={TRIM}",
        "--min-updates": LEAST_UPDATES,
        "--max-updates": len(HOSPITALS),
        "--quorum": QUORUM,
        "--collecting-seconds": ROUND_SECONDS,
    }
    words = [str(word) for option in options.items() for word in option]
    start_aggregator(stage.local, stage.data.task, *words)
