"""`python -m service keys`: made once, listed, rotated, revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.__main__ import main
from service.parts import key_pepper
from service.settings import Settings
from store.database import open_engine, open_sessions
from store.keys import Principal, authenticate


def act(data: Path, *arguments: str) -> int:
    return main(["keys", *arguments, "--project", "vision", "--data", str(data)])


def who(data: Path, bearer: str) -> Principal | None:
    settings = Settings(data=data)
    engine = open_engine(settings.database())
    with open_sessions(engine)() as session:
        found = authenticate(session, bearer, key_pepper(settings))
    engine.dispose()
    return found


def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends_after_the_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert act(tmp_path, "create", "--scopes", "read,submit") == 0
    old = capsys.readouterr().out.strip()
    assert act(tmp_path, "rotate", "--id", old.split("_")[1]) == 0
    new = capsys.readouterr().out.strip()
    first, second = who(tmp_path, old), who(tmp_path, new)
    assert first is not None
    assert second is not None
    assert (first.project, first.scopes) == (second.project, second.scopes)
    assert act(tmp_path, "rotate", "--id", new.split("_")[1], "--overlap-days", "0") == 0
    newest = capsys.readouterr().out.strip()
    assert who(tmp_path, new) is None
    assert who(tmp_path, newest) is not None
    act(tmp_path, "revoke", "--id", newest.split("_")[1])
    capsys.readouterr()
    act(tmp_path, "list")
    listed = capsys.readouterr().out
    assert [line.split()[1:3] for line in listed.splitlines()] == [
        ["read,submit", "in"], ["read,submit", "expired"], ["read,submit", "revoked"],
    ]  # fmt: skip
    # A listing shows nothing that opens anything.
    assert not [key for key in (old, new, newest) if key.rpartition("_")[2] in listed]


def test_a_key_of_another_project_is_neither_rotated_nor_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["keys", "create", "--scopes", "read", "--project", "audio", "--data", str(tmp_path)])
    bearer = capsys.readouterr().out.strip()
    for action in ("rotate", "revoke"):
        assert act(tmp_path, action, "--id", bearer.split("_")[1]) == 1
        assert "no such key" in capsys.readouterr().err
    assert who(tmp_path, bearer) is not None


@pytest.mark.parametrize("days", ["-1", "many", "nan", "1e9"])
def test_a_time_that_is_none_is_a_usage_error(tmp_path: Path, days: str) -> None:
    with pytest.raises(SystemExit) as refused:
        act(tmp_path, "create", "--scopes", "read", "--expires-days", days)
    assert refused.value.code == 2
