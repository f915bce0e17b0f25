"""What strangers wrote on the ledger is shown on a terminal and not obeyed by it."""

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

from chain.readings import ReadingRequest, RequestState, RequestTerms
from chain.types import AccessGrant, LogPosition
from chain.wire import to_json_dict
from cli import grants, reading_requests
from cli.screen import Screen, numbered

DIGEST = b"\x01" * 32
HOSTILE = "St. Mary\x1b[2J\x9b31m\u202egpj.exe[bold]"


def screen(as_json: bool) -> tuple[Screen, io.StringIO]:
    """A screen on a terminal, and what is written to it."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=200)
    return Screen(as_json, console, console), written


def _show(one: Screen) -> None:
    one.show([{"name": HOSTILE}])


def _show_object(one: Screen) -> None:
    one.show({"name": HOSTILE, "parts": [HOSTILE]})


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "print_it",
    [
        _show,
        _show_object,
        lambda one: one.say(HOSTILE),
        lambda one: one.fail("Error", HOSTILE),
    ],
)
def test_no_name_steers_the_terminal(print_it: Callable[[Screen], None], *, as_json: bool) -> None:
    one, written = screen(as_json)
    print_it(one)
    for steering in ("\x1b[2J", "\x9b", "\u202e"):
        assert steering not in written.getvalue()
    assert "[bold]" in written.getvalue()


def test_json_keeps_the_name_as_it_is() -> None:
    one, written = screen(as_json=True)
    one.show({"name": HOSTILE})
    assert json.loads(written.getvalue()) == {"name": HOSTILE}


def test_digests_in_objects_are_whole_on_a_narrow_terminal_however_deep() -> None:
    digest, prose = "0x" + "ab" * 32, "a sentence of several words " * 4
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, color_system=None, width=80, soft_wrap=True
    )
    rows = numbered([{"version": digest, "correction": None}])
    Screen(output=console).show({"encryption_key": digest, "versions": rows, "told": prose})
    lines = written.getvalue().splitlines()
    assert lines[:2] == [f"encryption_key  {digest}", f"versions        1  version  {digest}"]
    assert len(lines) == 4
    assert all(line.startswith(" " * 16) for line in lines[3:])


def test_tables_fold_no_digest_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    row = {name: "0x" + name * 64 for name in "abcd"}
    Screen().show([row])
    assert " │ ".join(row.values()) in capsys.readouterr().out


def test_lists_of_words_in_tables_are_words_and_no_json() -> None:
    one, written = screen(as_json=False)
    one.show([{"roles": ["HOSPITAL", "WITNESS"], "purposes": [6, 43], "steps": [{"name": "krum"}]}])
    for told in ("HOSPITAL, WITNESS", "6, 43", '[{"name":"krum"}]'):
        assert told in written.getvalue()


@pytest.mark.parametrize("absurd", [2**64 - 1, 10**12])
def test_times_that_no_calendar_has_are_shown_and_stop_no_list(absurd: int) -> None:
    """Any hospital may ask for a reading, or give a grant, until any second below 2^64."""
    hospital = "0x" + "11" * 20
    terms = RequestTerms(DIGEST, DIGEST, hospital, None, bytes(32), absurd, absurd, bytes(32))
    place = LogPosition(1, 0, DIGEST)
    request = ReadingRequest(DIGEST, terms, RequestState.OPEN, None, None, 1, place)
    shown = reading_requests._request_for_people(request, 1)
    assert (shown["take by"], shown["fulfil by"]) == (f"{absurd} s after 1970",) * 2
    grant = AccessGrant(
        DIGEST, DIGEST, None, hospital, hospital, 42, absurd, revoked=False, live=True
    )
    assert grants._for_people(to_json_dict(grant))["expiry"] == f"{absurd} s after 1970"
