"""Aggregation against Flower and ByzFL on the same updates in one run, and against reading alone.

With a peer ours is compared on the same arrays in memory: a peer returns an array, ours verdicts
and a model file. Beside it stands what ours takes in a round, from update files in the page cache
to the finished model file; what a peer would need to read those files and to write a model comes on
top of its time, is measured once and printed. Everybody has two
threads. Within a turn each party is called once, ours first; what counts is the best of the turns,
for everybody. Where a peer can be called in two ways both are measured, twice at least, and the
faster is the one to compare with.

A peer's ratio is its time by ours. Ours is held against the time of reading all updates once from
their mapped files as well, the least that anything could take which looks at them.

``make bench-aggregation`` runs it; rows go to ``bench/results.json``.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from aggregator import recipes
from aggregator.pipeline import Pipeline
from bench.aggregating import MODEL
from bench.children import THREADS, Child
from bench.results import Row, keep
from bench.updates import EXAMPLES, PARAMETERS, update_file, write_updates
from chain.files import replacing
from chain.tensors import open_tensors

ROOT = Path(__file__).resolve().parents[1]
COMPARED = 16  # updates, where peers are measured
SIZES = (10, COMPARED, 32, 64, 128)  # updates
TURNS = 4
TURNS_OF_THE_SLOWER_WAY = 2
LONG = 5.0  # seconds: what takes longer without a peer is measured in two turns
READING_TARGET = 4.0  # times of reading, up to
READING_TARGET_SIZE = 32  # updates
AGREEMENT = 1e-5  # of values around 1, in float32
BLOCK = 131_072  # of 8 bytes: what a core reads at a time fits into its second-level cache
MEGABYTE = 1e6
MILLION = 1_000_000  # the unit of parameters that are shares


Steps = Sequence[tuple[str, Mapping[str, int | str]]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that is measured, a recipe, or another step with the rule that it goes well with.

    Args:
        name: The step's name on the ledger, or the recipe's; ``bench/peers/answer.py`` knows rules
            by the same.
        pipeline: Names and parameters of the steps, for as many updates.
        targets: At least how many times as fast as a peer it is to be.
        same: Whether peers compute the same, so that results are held against each other.
    """

    name: str
    pipeline: Callable[[int], Steps]
    targets: Mapping[str, float] = field(default_factory=dict)
    same: bool = False

    def request(self, count: int, mapped: bool = False) -> Mapping[str, object]:
        """Ask for it on so many updates; see `bench.aggregating`."""
        steps = [{"name": name, "params": params} for name, params in self.pipeline(count)]
        return {"pipeline": steps, "count": count, "mapped": mapped}


def hostile(count: int) -> int:
    """Return f, how many of the updates a rule is to withstand: 20 %."""
    return count // 5


def _plain(name: str) -> Callable[[int], Steps]:
    return lambda _: [(name, {})]


def _withstanding(name: str) -> Callable[[int], Steps]:
    return lambda count: [(name, {"f": hostile(count)})]


def _before_mean(name: str, **params: int) -> Callable[[int], Steps]:
    return lambda _: [(name, params), ("fed_avg", {})]


def _recipe(build: Callable[[int], Pipeline]) -> Callable[[int], Steps]:
    """Take a whole recipe, made for as many attackers as there may be among the updates."""
    return lambda count: [(step.name, step.params) for step in build(hostile(count)).steps]


RULES = (
    Rule("fed_avg", _plain("fed_avg"), {"Flower": 3, "ByzFL": 1}, same=True),
    Rule("median", _plain("median"), {"Flower": 40, "ByzFL": 40}, same=True),
    Rule("trimmed_mean", _withstanding("trimmed_mean"), {"Flower": 40, "ByzFL": 40}, same=True),
    Rule("krum", _withstanding("krum"), {"Flower": 15, "ByzFL": 8}),
    Rule("multi_krum", _withstanding("multi_krum"), {"Flower": 15, "ByzFL": 8}),
    # ByzFL makes three iterations unless told otherwise, and one of centred clipping.
    Rule("geometric_median", lambda _: [("geometric_median", {"iterations": 3})], {"ByzFL": 10}),
    Rule(
        "centred_clipping",
        lambda _: [("centred_clipping", {"radius": MILLION, "iterations": 1})],
    ),
    # It needs 4f + 3 updates.
    Rule("bulyan", lambda count: [("bulyan", {"f": min(hostile(count), (count - 3) // 4)})]),
    Rule("mean", _plain("mean")),
    Rule("fl_trust", lambda _: [("fl_trust", {"root": update_file(Path(), 0).name})]),
    Rule("fools_gold", _plain("fools_gold")),
    Rule("norm_range", _before_mean("norm_range", lower=MILLION // 10, upper=3 * MILLION)),
    Rule("sign_clusters", _before_mean("sign_clusters")),
    Rule("direction_cluster", _before_mean("direction_cluster")),
    Rule("dnc", _recipe(recipes.dnc)),
    Rule("norm_clipping", _before_mean("norm_clipping", bound=MILLION)),
    Rule("weight_cap", _before_mean("weight_cap", bound=2 * MILLION)),
    Rule("nnm", _recipe(recipes.nnm_trimmed_mean)),
    Rule("sign_guard", _recipe(lambda _: recipes.sign_guard())),
    Rule("flame", _recipe(lambda _: recipes.flame())),
    Rule("default", _recipe(lambda _: recipes.default())),
    # As long as the robustness benchmark lets it iterate.
    Rule("geometric_median_8", lambda _: [("geometric_median", {"iterations": 8})]),
    Rule("bucketing", lambda _: [("bucketing", {"size": 2}), ("median", {})]),
    Rule("noise", lambda _: [("fed_avg", {}), ("noise", {"scale": MILLION // 1000})]),
    Rule(
        "fed_avg_m",
        lambda _: [
            ("fed_avg", {}),
            ("fed_avg_m", {"learning_rate": MILLION, "momentum": 9 * MILLION // 10}),
        ],
    ),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One rule at one size: best seconds, of ours, of reading, and of each peer's ways.

    Args:
        rule: Which.
        count: Of how many updates.
        ours: From updates in memory to a finished file.
        files: From files to a finished file.
        reading: Of all updates once, the best at this size.
        peers: By peer and way.
        peak: Anonymous memory of ours in bytes.
    """

    rule: Rule
    count: int
    ours: float
    files: float
    reading: float
    peers: Mapping[str, float]
    peak: int

    def rows(self) -> Iterator[Row]:
        """Give two rows against reading and one against each way of calling a peer."""
        mapped = f"aggregation.{self.rule.name}.mapped"
        for peer, seconds in self.peers.items():
            yield self._row(mapped, self.ours, peer, seconds, seconds / self.ours)
        reading = "reading all updates once"
        for name, ours in ((mapped, self.ours), (f"aggregation.{self.rule.name}", self.files)):
            yield self._row(name, ours, reading, self.reading, ours / self.reading)

    def _row(self, name: str, ours: float, peer: str, seconds: float, ratio: float) -> Row:
        return {
            "name": name,
            "n": self.count,
            "dim": PARAMETERS,
            "ours_s": round(ours, 4),
            "peer": peer,
            "peer_s": round(seconds, 4),
            "ratio": round(ratio, 2),
            "peak_rss_mb": round(self.peak / MEGABYTE),
        }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.aggregation")
    parser.add_argument("--peers", type=Path, help="the interpreter that has Flower and ByzFL")
    parser.add_argument("--rules", nargs="+", choices=[rule.name for rule in RULES])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of updates")
    parser.add_argument("--folder", type=Path, help="where updates are written: 5.8 GB for 128")
    options = parser.parse_args()
    rules = [rule for rule in RULES if not options.rules or rule.name in options.rules]
    console = Console(width=110)  # narrower terminals would break the tables
    measured: list[Measured] = []
    whole = None
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        console.print(f"writing {max(options.sizes)} updates")
        write_updates(folder, max(options.sizes), PARAMETERS)
        for count in options.sizes:
            measured += _measure(folder, rules, count, options.peers)
        if options.peers and COMPARED in options.sizes:
            with _answering(options.peers, folder, COMPARED) as peers:
                whole = min(peers.ask({"files": True})["seconds"] for _ in range(TURNS))
        model = (folder / "base.safetensors").read_bytes()
        writing = min(_seconds(lambda: _write(folder / "copy", model)) for _ in range(TURNS))
    if any(one.peers for one in measured):
        console.print(_peers_table(measured))
    if whole is not None:
        console.print(f"a peer reads {COMPARED} files and writes a model in {whole:.3f} s, on top")
    console.print(_reading_table(measured))
    console.print(f"writing the model file by itself takes {writing:.3f} s")
    if options.rules or tuple(options.sizes) != SIZES or not options.peers:
        console.print("bench/results.json is as it was: only a whole run goes there")
        return
    keep("aggregation", [row for one in measured for row in one.rows()])


def aggregating(folder: Path) -> Child:
    """Start the process that aggregates as a round does, on updates in a folder."""
    return Child((sys.executable, "-m", "bench.aggregating", folder), ROOT)


def _measure(
    folder: Path, rules: Iterable[Rule], count: int, interpreter: Path | None
) -> list[Measured]:
    """Measure rules at one size, with peers where it is theirs."""
    files = [update_file(folder, index) for index in range(count)]
    measured = []
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        read = _reader(files, pool)
        peers = None
        if interpreter and count == COMPARED:
            peers = stack.enter_context(_answering(interpreter, folder, count))
        for rule in rules:
            with aggregating(folder) as child:  # one for each, as memory is the rule's own
                party = _Parties(folder, child, read, peers)
                measured.append(_measure_rule(rule, count, party))
    reading = min(one.reading for one in measured)
    return [replace(one, reading=reading) for one in measured]


@dataclass(frozen=True, slots=True)
class _Parties:
    """Who is asked in turn, and where models go."""

    folder: Path
    ours: Child
    read: Callable[[], object]
    peers: Child | None


def _measure_rule(rule: Rule, count: int, parties: _Parties) -> Measured:
    from_files, from_memory = rule.request(count), rule.request(count, mapped=True)
    child, peers = parties.ours, parties.peers
    first = child.ask(from_files)["seconds"]  # loads what was compiled
    child.ask(from_memory)
    ways = [way for way, name in peers.ask({})["ways"] if name == rule.name] if peers else []
    ours, files, reading = [], [], []
    others: dict[str, list[float]] = defaultdict(list)
    for turn in range(TURNS if ways or first < LONG else 2):
        ours.append(child.ask(from_memory)["seconds"])
        files.append(child.ask(from_files)["seconds"])
        reading.append(_seconds(parties.read))
        for way in ways if turn < TURNS_OF_THE_SLOWER_WAY else _fastest_ways(others):
            if peers and (seconds := _ask_peer(peers, rule, way, parties.folder, turn)):
                others[way].append(seconds)
    return Measured(
        rule,
        count,
        ours=min(ours),
        files=min(files),
        reading=min(reading),
        peers={way: min(seconds) for way, seconds in others.items()},
        peak=child.peak,
    )


def _answering(interpreter: Path, folder: Path, count: int) -> Child:
    script = ROOT / "bench" / "peers" / "answer.py"
    weights = json.dumps([EXAMPLES] * count)
    # Not resolved: the link is what makes it the interpreter of its environment.
    return Child((interpreter.absolute(), script, folder, weights), folder)


def _ask_peer(peers: Child, rule: Rule, way: str, folder: Path, turn: int) -> float | None:
    """Return a peer's seconds, or None where it cannot do it at this size."""
    saved = folder / "peer.npy" if rule.same and turn == 0 else None
    request = {"rule": rule.name, "way": way, "f": hostile(COMPARED), "save": str(saved or "")}
    answer = peers.ask(request)
    if "failed" in answer:
        print(f"{way} does no {rule.name} of {COMPARED} updates: {answer['failed']}")
        return None
    if saved:
        _require_agreement(saved, folder / MODEL, f"{rule.name}, {way}")
        saved.unlink()
    return float(answer["seconds"])


def _fastest_ways(others: Mapping[str, Sequence[float]]) -> list[str]:
    """Return for each peer the way that was fastest so far."""
    fastest: dict[str, str] = {}
    for way, seconds in others.items():
        known = fastest.get(_peer(way))
        if known is None or min(seconds) < min(others[known]):
            fastest[_peer(way)] = way
    return list(fastest.values())


def _peer(way: str) -> str:
    return way.split(maxsplit=1)[0]


def _require_agreement(theirs: Path, ours: Path, what: str) -> None:
    """End where results differ by more than the rounding of float32: then times say nothing."""
    expected = np.load(theirs)
    with open_tensors(ours) as model:
        found = np.concatenate([array.ravel() for array in model.arrays.values()])
    if (furthest := float(np.max(np.abs(expected - found)))) > AGREEMENT:
        raise SystemExit(f"{what}: expected values within {AGREEMENT}, found {furthest} between")


def _reader(files: Iterable[Path], pool: ThreadPoolExecutor) -> Callable[[], object]:
    """Return what reads every byte of mapped files once, with two threads.

    Of what NumPy offers, a reduction by XOR was as fast as any: it runs without the interpreter's
    lock, waits for no addition, and nothing is written. Maps are kept between calls, so that after
    the first not even a page fault is in it.
    """
    maps = [np.memmap(file, np.uint64, "r", shape=file.stat().st_size // 8) for file in files]
    pieces = [
        whole[begin : begin + BLOCK] for whole in maps for begin in range(0, whole.size, BLOCK)
    ]

    def half(of: int) -> None:
        for piece in pieces[of::THREADS]:
            np.bitwise_xor.reduce(piece)

    return lambda: list(pool.map(half, range(THREADS)))


def _write(path: Path, data: bytes) -> None:
    with replacing(path, synced=False) as file:
        file.write(data)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _peers_table(measured: Iterable[Measured]) -> Table:
    table = Table(
        title=f"{COMPARED} updates of {PARAMETERS:,} float32 in memory, best of the turns"
    )
    for heading in ("rule", "in a round", "ours", "peer", "its time", "ratio", "target"):
        left = heading in {"rule", "peer", "target"}
        table.add_column(heading, justify="left" if left else "right")
    for one in filter(lambda one: one.peers, measured):
        fastest = _fastest_ways({way: [seconds] for way, seconds in one.peers.items()})
        for way, seconds in one.peers.items():
            ratio = seconds / one.ours
            least = one.rule.targets.get(_peer(way))
            mark = "" if least is None else f"≥ {least:g}x: {_verdict(ratio >= least)}"
            table.add_row(
                one.rule.name,
                f"{one.files:.3f} s",
                f"{one.ours:.3f} s",
                way,
                f"{seconds:.3f} s",
                f"{ratio:.1f}x",
                mark if way in fastest else "(its slower way)",
            )
        table.add_section()
    return table


def _reading_table(measured: Iterable[Measured]) -> Table:
    table = Table(title="Ours by the time of reading all updates once")
    headings = ("rule", "updates", "ours", "reading", "ratio", "target", "in a round", "memory")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in {"rule", "target"} else "right")
    for one in sorted(measured, key=lambda one: (one.rule.name, one.count)):
        ratio = one.ours / one.reading
        mark = f"≤ {READING_TARGET:g}x: {_verdict(ratio <= READING_TARGET)}"
        table.add_row(
            one.rule.name,
            str(one.count),
            f"{one.ours:.3f} s",
            f"{one.reading:.3f} s",
            f"{ratio:.1f}x",
            mark if one.count <= READING_TARGET_SIZE else "",
            f"{one.files:.3f} s",
            f"{one.peak / MEGABYTE:.0f} MB",
        )
    return table


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
