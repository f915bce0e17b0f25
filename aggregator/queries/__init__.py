"""Questions to the index: where a model comes from, what became of whom, and what looks odd.

Every function reads in the session that it is given (`aggregator.index.reading`), commits nothing
and returns plain values, each with the place on the chain that proves it. Lists come in pages, each
with a cursor to the next one; a cursor names the last row of its page, so rows that are added
meanwhile shift nothing, and the thousandth page costs what the first one does.
"""

from aggregator.descent import Flag, FlagKind
from aggregator.queries.entries import (
    Ancestor,
    ChainFinding,
    Contribution,
    CosignatureEntry,
    DatasetHistory,
    DatasetUse,
    DayEntry,
    Descendant,
    Descendants,
    GrantEntry,
    HospitalHistory,
    MembershipChange,
    Oddities,
    OddityCount,
    OddityEntry,
    Overview,
    PartyEntry,
    ProposalEntry,
    Provenance,
    RoleCount,
    RoundEntry,
    RoundHistory,
    Sight,
    Span,
    TaskEntry,
    TouchedTask,
    VerdictCount,
    VerdictEntry,
    VersionChange,
    VersionEntry,
    Viewers,
    WitnessEntry,
    WitnessWord,
)
from aggregator.queries.glance import MAX_DAYS, overview
from aggregator.queries.histories import dataset_history, hospital_history, round_history, rounds
from aggregator.queries.judgements import standings, verdicts
from aggregator.queries.lineage import descendants, provenance
from aggregator.queries.odd import oddities
from aggregator.queries.pages import MAX_CURSOR, MAX_PAGE, Page
from aggregator.queries.parties import names, parties
from aggregator.queries.sight import grants, viewers

__all__ = [
    "MAX_CURSOR",
    "MAX_DAYS",
    "MAX_PAGE",
    "Ancestor",
    "ChainFinding",
    "Contribution",
    "CosignatureEntry",
    "DatasetHistory",
    "DatasetUse",
    "DayEntry",
    "Descendant",
    "Descendants",
    "Flag",
    "FlagKind",
    "GrantEntry",
    "HospitalHistory",
    "MembershipChange",
    "Oddities",
    "OddityCount",
    "OddityEntry",
    "Overview",
    "Page",
    "PartyEntry",
    "ProposalEntry",
    "Provenance",
    "RoleCount",
    "RoundEntry",
    "RoundHistory",
    "Sight",
    "Span",
    "TaskEntry",
    "TouchedTask",
    "VerdictCount",
    "VerdictEntry",
    "VersionChange",
    "VersionEntry",
    "Viewers",
    "WitnessEntry",
    "WitnessWord",
    "dataset_history",
    "descendants",
    "grants",
    "hospital_history",
    "names",
    "oddities",
    "overview",
    "parties",
    "provenance",
    "round_history",
    "rounds",
    "standings",
    "verdicts",
    "viewers",
]
