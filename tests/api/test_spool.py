"""The spool by itself: what it reports as taken is on disk, whatever happens."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.problems import not_found
from api.spool import Quota, Spool, UploadState
from chain.errors import InvalidInputError
from tests.api.conftest import record_for
from tests.waiting import PATIENCE_SECONDS

QUOTA = Quota(uploads=8, bytes=2**40, reserve_bytes=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=4096), st.booleans()), min_size=1, max_size=12))
def test_after_any_crash_the_file_is_what_the_offset_says(
    pieces: list[tuple[bytes, bool]],
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        spool = Spool(folder, QUOTA)
        upload = spool.begin(record_for(b"x"), b"\x1b" * 65, 2**20, expires=1)
        taken = b""
        for piece, crashes in pieces:
            with spool.appending(upload.id) as appender:
                appender.write(piece)
            taken += piece
            assert spool.path(upload).read_bytes() == taken
            if crashes:
                spool.close()
                with spool.path(upload).open("ab") as file:
                    file.write(b"never acknowledged")
                spool = Spool(folder, QUOTA)
            found = spool.find(upload.id)
            assert found is not None
            assert found.offset == len(taken)
        spool.close()


def test_the_last_byte_makes_an_upload_complete(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    upload = spool.begin(record_for(b"x"), b"\x1b" * 65, 10, expires=1)
    for piece, state in ((b"01234", UploadState.RECEIVING), (b"56789", UploadState.STORING)):
        with spool.appending(upload.id) as appender:
            appender.write(piece)
        found = spool.find(upload.id)
        assert found is not None
        assert found.state is state
    spool.close()


def test_bytes_of_an_upload_that_is_begun_anew_outlive_the_drop_of_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, QUOTA)
    terms = (record_for(b"x"), b"\x1b" * 65, 10)
    upload = spool.begin(*terms, expires=1)
    dropping, go_on, unlink = Event(), Event(), Path.unlink

    def slow_unlink(path: Path, missing_ok: bool = False) -> None:
        dropping.set()
        assert go_on.wait(PATIENCE_SECONDS)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", slow_unlink)

    def begin_anew() -> None:
        with spool.appending(spool.begin(*terms, expires=1).id) as appender:
            appender.write(b"01234")

    with ThreadPoolExecutor(2) as pool:
        refused = pool.submit(spool.refuse, upload, not_found("upload"))
        assert dropping.wait(PATIENCE_SECONDS)
        begun = pool.submit(begin_anew)
        wait([begun], timeout=0.2)
        go_on.set()
        refused.result(PATIENCE_SECONDS)
        begun.result(PATIENCE_SECONDS)
    assert spool.path(upload).read_bytes() == b"01234"
    spool.close()


def test_two_servers_do_not_share_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    with pytest.raises(InvalidInputError, match="another server uses"):
        Spool(tmp_path, QUOTA)
    spool.close()
    Spool(tmp_path, QUOTA).close()


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", QUOTA)
    upload = spool.begin(record_for(b"x"), b"\x1b" * 65, 10, expires=1)
    with spool.appending(upload.id) as appender:
        appender.write(b"x")
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert spool.path(upload).stat().st_mode & 0o077 == 0
    spool.close()


def test_refusals_are_forgotten_a_week_after_the_deadline(tmp_path: Path) -> None:
    spool = Spool(tmp_path, QUOTA)
    upload = spool.begin(record_for(b"x"), b"\x1b" * 65, 10, expires=1000)
    spool.refuse(upload, not_found("thing"))
    week = 7 * 24 * 3600
    spool.forget_refused(1000 + week)
    assert spool.find(upload.id) is not None
    spool.forget_refused(1001 + week)
    assert spool.find(upload.id) is None
    spool.close()
