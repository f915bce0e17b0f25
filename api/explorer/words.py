"""Codes of the ledger in plain words (docs/protocol.md, sections 7 to 9).

Nothing here decides anything: each sentence stands on a page beside the code that it explains.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from aggregator.catalogue import catalogue
from chain.canonical import parse_json
from chain.errors import InvalidInputError
from chain.readings import Agreement, RequestState
from chain.types import DatasetState, Outcome, Phase

_MAX_PIPELINE = 4_096
_CODE = re.compile(r"CODE_(\d+)")
_FAR = 3_650 * 86_400  # seconds

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "NONE": "Nothing was found against it.",
        "BLOB_UNAVAILABLE": "Its envelope could not be had from IPFS.",
        "BLOB_DIGEST_MISMATCH": "The bytes on IPFS are not those that the record names.",
        "BLOB_TOO_LARGE": "Its envelope is larger than one of this model can be.",
        "ENVELOPE_MALFORMED": "What lies on IPFS is no envelope.",
        "ENVELOPE_CONTEXT_MISMATCH": (
            "The envelope was made for another chain, ledger, round or hospital."
        ),
        "ENVELOPE_RECIPIENTS_MISMATCH": (
            "The envelope is not sealed to exactly those who may read this round's updates."
        ),
        "ENVELOPE_UNOPENABLE": "The envelope's keys do not open it.",
        "UPDATE_DIGEST_MISMATCH": "What the envelope holds is not the update that was recorded.",
        "TENSORS_MALFORMED": "The update is not a canonical file of tensors.",
        "TENSOR_NAME_MISMATCH": "Its tensors have other names than the model's.",
        "TENSOR_DTYPE_MISMATCH": "Its numbers are of another type than the model's.",
        "TENSOR_SHAPE_MISMATCH": "Its tensors have other shapes than the model's.",
        "NOT_A_NUMBER": "It contains a value that is not a number (NaN).",
        "INFINITE_VALUE": "It contains an infinite value.",
        "COPIED_FROM_PEER": "The same content was recorded earlier in this round.",
        "REPLAYED_UPDATE": "The same content was sent in an earlier round, or is a model.",
        "QUARANTINED": "The hospital is in quarantine for what it sent before.",
        "NORM_OUT_OF_RANGE": "Its length is too far from that of the others.",
        "SIGNS_OUT_OF_CLUSTER": "The signs of its changes are unlike those of most others.",
        "DIRECTION_OUT_OF_CLUSTER": "It points in another direction than most others.",
        "OUTLYING_PROJECTION": "It stands out along the direction in which updates differ most.",
        "TOO_MUCH_ALIKE": "It is too much like another update, as those of one sender are.",
        "TRIMMED_BY_RULE": "Nearly all of its values were extremes, which the rule leaves out.",
        "CLIPPED_BY_RULE": "It was longer or weighed more than allowed, and was shortened.",
        "NOT_SELECTED_BY_RULE": "The rule took others that lie closer together.",
        "WEIGHED_DOWN_BY_RULE": "It lies far from the others, so the rule gave it little weight.",
        "AGAINST_ROOT_UPDATE": "It points away from the trusted root's update.",
        "UNKNOWN": "The aggregator wrote a code that the protocol does not have.",
    }
)

_PHASES: Final[Mapping[Phase, tuple[str, str]]] = MappingProxyType(
    {
        Phase.UNKNOWN: ("unknown", "plain"),
        Phase.OPEN: ("open", "busy"),
        Phase.COLLECTING: ("collecting", "busy"),
        Phase.PROPOSED: ("proposed", "warn"),
        Phase.FINAL: ("final", "good"),
        Phase.ABORTED: ("aborted", "plain"),
    }
)

_OUTCOMES: Final[Mapping[Outcome, tuple[str, str, str]]] = MappingProxyType(
    {
        Outcome.ACCEPTED: ("accepted", "good", "✓"),
        Outcome.CLIPPED: ("clipped", "warn", "≈"),
        Outcome.REJECTED: ("rejected", "bad", "✗"),
    }
)

_STATES: Final[Mapping[DatasetState, tuple[str, str]]] = MappingProxyType(
    {
        DatasetState.UNKNOWN: ("unknown", "plain"),
        DatasetState.ACTIVE: ("active", "good"),
        DatasetState.SUPERSEDED: ("superseded", "plain"),
        DatasetState.WITHDRAWN: ("withdrawn", "bad"),
    }
)

_AGREEMENTS: Final[Mapping[Agreement, tuple[str, str, str]]] = MappingProxyType(
    {
        Agreement.UNKNOWN: ("unknown", "plain", "?"),
        Agreement.AGREES: ("agrees", "good", "✓"),
        Agreement.MINOR_DISCREPANCY: ("minor discrepancy", "warn", "≈"),
        Agreement.MAJOR_DISCREPANCY: ("major discrepancy", "bad", "✗"),
    }
)

_REQUEST_STATES: Final[Mapping[RequestState, tuple[str, str]]] = MappingProxyType(
    {
        RequestState.UNKNOWN: ("unknown", "plain"),
        RequestState.OPEN: ("open", "busy"),
        RequestState.TAKEN: ("taken", "warn"),
        RequestState.FULFILLED: ("fulfilled", "good"),
        RequestState.CANCELLED: ("cancelled", "plain"),
    }
)

_PURPOSES: Final[Mapping[int, str]] = MappingProxyType(
    {
        4: "no restriction",
        6: "health or medical research",
        7: "research on a disease",
        11: "population origins or ancestry research",
        42: "general research",
        43: "clinical care",
    }
)

_ODDITIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "late_record": "a record after its deadline",
        "out_of_order": "an event out of its order",
        "time_went_back": "a time that went backwards",
        "time_jumped": "a time far from its neighbours",
        "hasty_attestation": "an attestation too quick to have been recomputed",
        "unnamed_witness": "a word of a witness that the round does not name",
        "unattested_final": "a final round with too few attestations",
        "disputed_final": "a final round whose proposal is disputed",
        "disputed_proposal": "a disputed proposal",
    }
)

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "quarantine": "First",
        "screen": "Screen",
        "transform": "Transform",
        "rule": "Rule",
        "noise": "Noise",
        "optimiser": "Server optimiser",
    }
)


@dataclass(frozen=True, slots=True)
class StepWords:
    """A step of a pipeline as people read it.

    Attributes:
        kind: What kind of step it is.
        name: Its name on the ledger.
        description: One sentence, empty for a step that this server does not know.
        parameters: Each with its name, value and meaning.
    """

    kind: str
    name: str
    description: str
    parameters: tuple[tuple[str, str, str], ...]


def sentence(reason: str) -> str:
    """Explain a reason code."""
    if code := _CODE.fullmatch(reason):
        return f"The aggregator wrote the code {code[1]}, which the protocol does not have."
    return REASONS.get(reason, "This server does not know the code.")


def phase(found: Phase) -> tuple[str, str]:
    """Return a phase's word and the kind of its badge."""
    return _PHASES[found]


def outcome(found: Outcome) -> tuple[str, str, str]:
    """Return an outcome's word, the kind of its badge, and a sign that needs no colour."""
    return _OUTCOMES[found]


def dataset_state(found: DatasetState) -> tuple[str, str]:
    """Return a data-set version's state in a word, and the kind of its badge."""
    return _STATES[found]


def agreement(found: Agreement) -> tuple[str, str, str]:
    """Return how far two readings agree in words, the kind of its badge, and a sign."""
    return _AGREEMENTS[found]


def request_state(found: RequestState, *, lapsed: bool) -> tuple[str, str]:
    """Return where a request for a reading stands in a word, and the kind of its badge."""
    return ("lapsed", "bad") if lapsed else _REQUEST_STATES[found]


def distance(at: int, now: float) -> str:
    """Tell how far a time is from now, in the two greatest units."""
    seconds = at - int(now)
    if abs(seconds) > _FAR:
        return "far ahead" if seconds > 0 else "long ago"
    far = _span(abs(seconds))
    return f"in {far}" if seconds >= 0 else f"{far} ago"


def _span(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    hours, minutes = rest // 3_600, rest % 3_600 // 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def purpose(number: int) -> str:
    """Return a purpose of the Data Use Ontology in words."""
    code = f"DUO:{number:07d}"
    return f"{_PURPOSES[number]} ({code})" if number in _PURPOSES else code


def oddity(kind: str) -> str:
    """Return what was odd in words."""
    return _ODDITIES.get(kind, kind)


def pipeline(rule: str) -> tuple[StepWords, ...] | None:
    """Explain a round's pipeline, step by step.

    Args:
        rule: Canonical JSON, as the ledger has it; anybody may have written it.

    Returns:
        Its steps; None where it is not a list of steps.
    """
    try:
        steps = parse_json(rule.encode(), _MAX_PIPELINE)
    except (InvalidInputError, UnicodeEncodeError):
        return None
    if not isinstance(steps, list) or not all(_is_step(step) for step in steps):
        return None
    return tuple(_step(step["name"], step["params"]) for step in steps)


def plain(text: str) -> str:
    """Make characters visible that would otherwise change how the text around them reads.

    Names, tasks and reasons are anybody's: control characters and those that turn the direction
    of writing are written as escapes.
    """
    return "".join(one if _is_harmless(one) else f"\\u{ord(one):04x}" for one in text)


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character == "\n"


def _is_step(step: object) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("name"), str)
        and isinstance(step.get("params"), dict)
    )


def _step(name: str, params: Mapping[str, Any]) -> StepWords:
    known = next((one for one in catalogue() if one.name == name and one.kind != "recipe"), None)
    meanings = {one.name: one.description for one in known.parameters} if known else {}
    return StepWords(
        _KINDS[known.kind] if known else "Unknown step",
        name,
        known.description if known else "",
        tuple((key, str(value), meanings.get(key, "")) for key, value in params.items()),
    )
