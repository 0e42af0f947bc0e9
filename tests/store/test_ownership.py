"""Laws of artifacts, keys and present workers, held on both databases."""

from __future__ import annotations

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from store import tables
from store.artifacts import find_artifact, missing_artifacts, record_artifact
from store.blobs import Blob
from store.database import database_now
from store.keys import Principal, Scope, authenticate, create_key, list_keys, load_pepper, revoke_key
from store.moments import seconds_from_now
from store.presence import announce_worker, present_workers, retire_worker, worker_seen
from store.records import JobRow

Sessions = sessionmaker[Session]
BLOB = Blob("sha256:" + "c" * 64, 2**40)


def test_an_artifact_belongs_to_a_project_whoever_else_has_the_bytes(sessions: Sessions) -> None:
    for project in ("a", "b"):
        with sessions.begin() as session:
            assert record_artifact(session, project=project, blob=BLOB)
    with sessions.begin() as session:
        assert not record_artifact(session, project="a", blob=BLOB)
        assert find_artifact(session, project="a", id=BLOB.id).size == 2**40
        assert find_artifact(session, project="c", id=BLOB.id) is None
        other = "sha256:" + "d" * 64
        assert missing_artifacts(session, project="a", ids=[BLOB.id, other]) == {other}


def test_uploads_of_the_same_bytes_at_once_create_one_artifact(sessions: Sessions) -> None:
    def record(_: int) -> bool:
        with sessions.begin() as session:
            return record_artifact(session, project="new", blob=BLOB)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(record, range(8))) == [False] * 7 + [True]


def test_a_key_opens_its_project_with_its_scopes(sessions: Sessions) -> None:
    with sessions.begin() as session:
        bearer, key = create_key(session, project="vision", scopes=[Scope.SUBMIT, Scope.READ], pepper=b"pepper")
    with sessions() as session:
        principal = Principal("vision", frozenset({Scope.SUBMIT, Scope.READ}), key.id)
        assert authenticate(session, bearer, b"pepper") == principal
        assert list_keys(session, project="vision") == (key,)
        assert list_keys(session, project="other") == ()
        stored = session.scalars(select(tables.ApiKey)).one()
        assert bearer.rsplit("_", 1)[1] not in str(vars(stored))


def test_no_other_text_opens_anything(sessions: Sessions) -> None:
    with sessions.begin() as session:
        bearer, _ = create_key(session, project="vision", scopes=[Scope.READ], pepper=b"pepper")
        other, _ = create_key(session, project="audio", scopes=[Scope.READ], pepper=b"pepper")
    identity, secret = bearer.rsplit("_", 1)
    wrong = [
        "", "sk_", secret, identity, f"{bearer}0", f"{bearer}\n", bearer.upper(), bearer.replace("_", "-"),
        f"{identity}_{'0' * 64}", f"{identity}_{other.rsplit('_', 1)[1]}", f"sk_{'0' * 32}_{secret}", "sk_' OR 1=1--_x",
    ]  # fmt: skip
    with sessions() as session:
        assert [authenticate(session, text, b"pepper") for text in wrong] == [None] * len(wrong)
        assert authenticate(session, bearer, b"another pepper") is None


def test_a_key_ends_with_its_expiry_or_its_revocation(sessions: Sessions) -> None:
    with sessions.begin() as session:
        moment = database_now(session)
        hour = timedelta(hours=1)
        scopes = [Scope.ADMIN]
        expired, _ = create_key(session, project="p", scopes=scopes, expires_at=moment - hour, pepper=b"x")
        lasting, key = create_key(session, project="p", scopes=scopes, expires_at=moment + hour, pepper=b"x")
    with sessions.begin() as session:
        assert authenticate(session, expired, b"x") is None
        assert authenticate(session, lasting, b"x") is not None
        assert not revoke_key(session, project="other", key_id=key.id)
        assert revoke_key(session, project="p", key_id=key.id)
        assert not revoke_key(session, project="p", key_id=key.id)
        assert authenticate(session, lasting, b"x") is None
        with pytest.raises(ValueError, match="at least one scope"):
            create_key(session, project="p", scopes=[], pepper=b"x")


def test_the_pepper_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    pepper = load_pepper(tmp_path / "pepper")
    assert len(pepper) == 32
    assert load_pepper(tmp_path / "pepper") == pepper
    assert load_pepper(tmp_path / "other") != pepper
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600


def test_a_worker_is_present_while_it_is_seen(sessions: Sessions) -> None:
    def announce(queues: list[str]) -> None:
        with sessions.begin() as session:
            announce_worker(session, name="w", queues=queues, device="cpu", sandbox="strict")

    def present() -> list[tuple[str, ...]]:
        with sessions() as session:
            return [worker.queues for worker in present_workers(session)]

    announce(["cpu"])
    announce(["cpu", "gpu"])
    assert present() == [("cpu", "gpu")]
    with sessions.begin() as session:
        session.execute(update(tables.Worker).values(seen_at=seconds_from_now(-61)))
    assert present() == []
    with sessions.begin() as session:
        worker_seen(session, "w")
        worker_seen(session, "nobody")
    assert present() == [("cpu", "gpu")]
    with sessions.begin() as session:
        retire_worker(session, "w")
    assert present() == []


@pytest.mark.parametrize(
    "impossible",
    [
        {"status": "paused"},
        {"status": "running"},
        {"status": "failed"},
        {"status": "succeeded"},
        {"attempt": 4},
        {"attempt": -1},
        {"error_code": "internal"},
        {"verdict": "saddle"},
        {"project": "nobody"},
    ],
)
def test_the_database_itself_refuses_an_impossible_job(
    sessions: Sessions, submit: Callable[..., JobRow], impossible: dict[str, object]
) -> None:
    submit()
    with pytest.raises(IntegrityError), sessions.begin() as session:
        session.execute(update(tables.Job).values(**impossible))
