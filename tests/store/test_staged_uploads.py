"""Laws of uploads and quotas: on both databases, and for transactions at once."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from store.artifacts import find_artifact, record_artifact
from store.blobs import Blob, open_blobs
from store.quotas import QuotaExceeded, list_storage, set_quota, used_bytes
from store.staging import Staging, UploadBusy, open_staging
from store.uploads import (
    ORPHAN_SECONDS,
    UploadRow,
    advance_upload,
    create_upload,
    expire_uploads,
    find_upload,
    finish_upload,
)


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return open_staging(open_blobs(tmp_path / "blobs"))


def create(
    sessions: sessionmaker[Session], staging: Staging, *, size: int = 10, lifetime: float = 60, quota: int | None = None
) -> UploadRow:
    with sessions.begin() as session:
        row = create_upload(
            session,
            project="vision",
            size=size,
            expected=None,
            metadata=None,
            lifetime_seconds=lifetime,
            default_quota_bytes=quota,
        )
        staging.create(row.id)
    return row


def blob(number: int, size: int) -> Blob:
    return Blob(f"sha256:{number:064x}", size)


def test_an_offset_never_goes_back(sessions: sessionmaker[Session], staging: Staging) -> None:
    row = create(sessions, staging)
    for offset in (4, 3, 10):
        with sessions.begin() as session:
            advance_upload(session, row.id, offset=offset, lifetime_seconds=60)
        with sessions() as session:
            found = find_upload(session, project="vision", upload_id=row.id)
            assert found is not None
            assert found.offset == max(4, offset)


def test_time_takes_what_nobody_goes_on_with_and_nothing_else(
    sessions: sessionmaker[Session], staging: Staging
) -> None:
    late, busy, alive, done = (create(sessions, staging, lifetime=lifetime) for lifetime in (0, 0, 60, 60))
    with sessions.begin() as session:
        finish_upload(session, done, blob(1, 10))
    orphan, young = staging.folder / "upl_orphan", staging.folder / "upl_young"
    for file in (orphan, young):
        file.touch()
    os.utime(orphan, (time.time() - 2 * ORPHAN_SECONDS,) * 2)
    os.utime(staging.folder / alive.id, (time.time() - 2 * ORPHAN_SECONDS,) * 2)
    for expected in ([late.id], []):
        with staging.open(busy.id), sessions.begin() as session:
            assert expire_uploads(session, staging) == expected
    left = {path.name for path in staging.folder.iterdir()}
    assert left == {busy.id, alive.id, done.id, young.name}
    with sessions() as session:
        assert find_upload(session, project="vision", upload_id=late.id) is None
        assert find_artifact(session, project="vision", id=blob(1, 10).id) is not None


def test_one_writer_at_a_time_in_all_threads(sessions: sessionmaker[Session], staging: Staging) -> None:
    row = create(sessions, staging)
    start = threading.Barrier(8)

    def write(_: int) -> bool:
        start.wait()
        try:
            with staging.open(row.id):
                time.sleep(0.2)
        except UploadBusy:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1


def test_transactions_at_once_do_not_exceed_a_quota_together(sessions: sessionmaker[Session], staging: Staging) -> None:
    create(sessions, staging, size=0)
    start = threading.Barrier(8)

    def store(number: int) -> bool:
        start.wait()
        try:
            with sessions.begin() as session:
                record_artifact(session, project="vision", blob=blob(number, 30), default_quota_bytes=100)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(store, range(8))) == 3
    with sessions() as session:
        assert used_bytes(session, "vision") == 90


def test_a_quota_of_its_own_goes_before_the_default(sessions: sessionmaker[Session], staging: Staging) -> None:
    with sessions.begin() as session:
        set_quota(session, "vision", 100)
    create(sessions, staging, size=100, quota=10)
    with pytest.raises(QuotaExceeded, match="101 bytes would"):
        create(sessions, staging, size=1, quota=1000)
    with sessions.begin() as session:
        set_quota(session, "vision", None)
    create(sessions, staging, size=1, quota=1000)
    with sessions() as session:
        assert [(row.project, row.used_bytes, row.quota_bytes) for row in list_storage(session)] == [
            ("vision", 101, None)
        ]


def test_other_projects_do_not_count(sessions: sessionmaker[Session], staging: Staging) -> None:
    with sessions.begin() as session:
        record_artifact(session, project="text", blob=blob(1, 90), default_quota_bytes=100)
    create(sessions, staging, size=100, quota=100)
