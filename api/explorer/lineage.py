"""A model's descent as a graph: data-set versions, updates, rounds, models, from left to right.

The newest round stands at the top. Each round's model hangs on the right of it, and is the base
of the round above.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aggregator.queries import Ancestor, Contribution, DatasetUse
from chain.types import DatasetState, Outcome
from chain.wire import to_hex

COLUMNS = (16, 286, 556, 780)  # left sides
WIDTHS = (196, 196, 150, 164)
WIDTH = COLUMNS[-1] + WIDTHS[-1] + 16
_ROW = 44  # of an update
_BOX = 34
_GAP = 26  # between rounds
_HEAD = 40
_CUT = 24  # characters of a label


@dataclass(frozen=True, slots=True)
class Node:
    """A box with two lines of text, which links to a page.

    Attributes:
        key: What edges call it.
        kind: Its CSS classes.
        href: The page about it.
        label: First line.
        note: Second line.
        told: The whole, for those who do not see the graph.
        x: Left side.
        y: Upper side.
        width: Of the box.
    """

    key: str
    kind: str
    href: str
    label: str
    note: str
    told: str
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        """Half-way down the box."""
        return self.y + _BOX / 2


@dataclass(frozen=True, slots=True)
class Edge:
    """A line between two nodes, as the path of an SVG."""

    kind: str
    start: str
    end: str
    path: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes and edges, and how much room they need."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    height: float
    width: float = WIDTH
    box: float = _BOX


def draw(ancestors: Sequence[Ancestor], names: dict[str, str]) -> Graph:
    """Lay a model's descent out.

    Args:
        ancestors: The rounds, the newest first, at least one.
        names: Parties' names by address.
    """
    rounds: list[Node] = []
    models: dict[str, Node] = {}
    updates: list[tuple[Node, Contribution]] = []
    y: float = _HEAD
    for ancestor in ancestors:
        height = _ROW * max(2, len(ancestor.kept))
        updates += [
            (_update(one, names, y + place * _ROW), one) for place, one in enumerate(ancestor.kept)
        ]
        middle = y + (height - _ROW) / 2
        rounds.append(_round(ancestor, middle))
        if (made := ancestor.round.model) is not None:
            models.setdefault(to_hex(made), _model(made, middle, ancestor.round.number))
        y += height + _GAP
    for ancestor in ancestors:
        base = to_hex(ancestor.round.base_model)
        if base not in models:
            models[base] = _model(ancestor.round.base_model, y, None)
            y += _ROW
    data = _data([one for _, one in updates], y)
    edges = [
        *_edges_of_data(updates, data),
        *_edges_of_updates(updates, rounds),
        *_edges_of_models(ancestors, rounds, models),
    ]
    nodes = (*data.values(), *(node for node, _ in updates), *rounds, *models.values())
    return Graph(nodes, tuple(edges), max(y, *(node.y + _ROW for node in nodes)) + 4)


def _update(one: Contribution, names: dict[str, str], y: float) -> Node:
    name = names.get(one.hospital, _ends(one.hospital))
    outcome = "clipped" if one.verdict and one.verdict.outcome is Outcome.CLIPPED else "accepted"
    return Node(
        f"u{one.round}-{one.hospital}",
        f"update {outcome}",
        f"/rounds/{one.round}#update-{one.hospital}",
        _cut(name),
        f"{one.examples} examples, {outcome}",
        f"Update of {name} in round {one.round}: {one.examples} examples, {outcome}",
        COLUMNS[1],
        y,
        WIDTHS[1],
    )


def _round(ancestor: Ancestor, y: float) -> Node:
    round_ = ancestor.round
    count = len(ancestor.kept)
    told = f"Round {round_.number} of the task {round_.task}: {count} updates kept"
    return Node(
        f"r{round_.number}",
        "round",
        f"/rounds/{round_.number}",
        f"Round {round_.number}",
        f"{count} updates kept",
        told,
        COLUMNS[2],
        y,
        WIDTHS[2],
    )


def _model(digest: bytes, y: float, number: int | None) -> Node:
    text = to_hex(digest)
    note = "first model" if number is None else f"model of round {number}"
    return Node(
        text,
        "model origin" if number is None else "model",
        f"/models/{text}" if number is not None else f"#origin-{text}",
        _ends(text),
        note,
        f"{note.capitalize()}: {_ends(text)}",
        COLUMNS[3],
        y,
        WIDTHS[3],
    )


def _data(uses: Iterable[Contribution], height: float) -> dict[bytes, Node]:
    """Spread the data-set versions over the height, those of the newest updates first."""
    versions: dict[bytes, DatasetUse] = {}
    for one in uses:
        for use in one.datasets:
            versions.setdefault(use.version, use)
    step = max(_ROW, (height - _HEAD - _ROW) / max(1, len(versions)))
    return {
        version: _dataset(use, _HEAD + (place + 0.5) * step - _ROW / 2)
        for place, (version, use) in enumerate(versions.items())
    }


def _dataset(use: DatasetUse, y: float) -> Node:
    state = use.state.name.lower()
    is_gone = use.state is DatasetState.WITHDRAWN
    return Node(
        to_hex(use.version),
        "data withdrawn" if is_gone else "data",
        f"/datasets/{to_hex(use.version)}",
        _cut(use.name),
        f"{use.images} images, {state}",
        f"Data set {use.name}, version {_ends(to_hex(use.version))}: {use.images} images, {state}",
        COLUMNS[0],
        round(y, 2),
        WIDTHS[0],
    )


def _edges_of_data(
    updates: Iterable[tuple[Node, Contribution]], data: dict[bytes, Node]
) -> list[Edge]:
    return [
        _across("withdrawn" if use.state is DatasetState.WITHDRAWN else "", data[use.version], node)
        for node, one in updates
        for use in one.datasets
    ]


def _edges_of_updates(
    updates: Iterable[tuple[Node, Contribution]], rounds: Iterable[Node]
) -> list[Edge]:
    by_key = {node.key: node for node in rounds}
    return [_across("", node, by_key[f"r{one.round}"]) for node, one in updates]


def _edges_of_models(
    ancestors: Sequence[Ancestor], rounds: Sequence[Node], models: dict[str, Node]
) -> list[Edge]:
    edges: list[Edge] = []
    for ancestor, node in zip(ancestors, rounds, strict=True):
        if ancestor.round.model is not None:
            edges.append(_across("base", node, models[to_hex(ancestor.round.model)]))
        edges.append(_upwards(models[to_hex(ancestor.round.base_model)], node))
    return edges


def _across(kind: str, start: Node, end: Node) -> Edge:
    x = start.x + start.width
    half = (end.x - x) / 2
    path = (
        f"M{x:g} {start.middle:g}"
        f"C{x + half:g} {start.middle:g} {end.x - half:g} {end.middle:g} {end.x:g} {end.middle:g}"
    )
    return Edge(f"edge {kind}".rstrip(), start.key, end.key, path)


def _upwards(model: Node, node: Node) -> Edge:
    """Draw from a base model, which stands lower and further right, to the round it was used in."""
    x, y = model.x + model.width / 4, model.y
    end_x, end_y = node.x + node.width * 3 / 4, node.y + _BOX
    path = (
        f"M{x:g} {y:g}C{x:g} {(y + end_y) / 2:g} {end_x:g} {(y + end_y) / 2:g} {end_x:g} {end_y:g}"
    )
    return Edge("edge base", model.key, node.key, path)


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[: _CUT - 1]}…"


def _ends(text: str) -> str:
    return f"{text[:10]}…{text[-4:]}"
