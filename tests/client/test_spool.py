"""Submissions on disk: written whole or not at all, sent later, each exactly once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scripted_server import Answer, ScriptedServer, job_json, problem_json

from examples.embedded import running_service
from saddlescope import Client
from saddlescope.client import (
    ApiError,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    ServerError,
    Spooled,
    TooLarge,
    Unauthorized,
)

NOWHERE = "http://127.0.0.1:9"
TOY = "(1 - w1*w2)**2"
ORIGIN = {"w1": 0.0, "w2": 0.0}
HEAD_FOUND = Answer(200)


def offline(spool: Path) -> Client:
    return Client(NOWHERE, retries=0, spool=spool)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("spool") / "data") as address:
        yield address


def test_what_was_kept_while_nothing_answered_arrives_as_if_it_had_been_sent(url: str, tmp_path: Path) -> None:
    checkpoint = {"w1": np.zeros(1), "w2": np.zeros(1)}
    data = {"x": np.ones((3, 1))}
    with offline(tmp_path) as client:
        for step in (100, 200):
            client.keep(
                checkpoint | {"w1": np.full(1, step / 1e6)}, "mean((x - w1*w2)**2)", data, run="later", step=step
            )
        with pytest.raises(Spooled, match="saddlescope send") as caught:
            client.submit(checkpoint, "mean((x - w1*w2)**2)", data, run="later", step=300)
    assert caught.value.waiting.is_dir()
    with Client(url, spool=tmp_path) as client:
        sent = list(client.send_spooled())
        assert [delivery.job.info.run.step for delivery in sent] == [100, 200, 300]
        assert sent[2].job.wait(60).verdict == "saddle"
        assert list(client.send_spooled()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_spool_that_is_sent_again_after_a_crash_makes_no_second_job(url: str, tmp_path: Path) -> None:
    with offline(tmp_path / "spool") as client:
        client.keep(ORIGIN, TOY, run="crash", step=1, force=True)
        client.keep(ORIGIN, TOY, run="crash", step=2)
    # As if the sender had died between the service's acknowledgement and the removal.
    shutil.copytree(tmp_path / "spool", tmp_path / "as-it-was")
    ids = []
    for folder in ("spool", "as-it-was"):
        with Client(url, spool=tmp_path / folder) as client:
            ids.append([delivery.job.id for delivery in client.send_spooled()])
    assert ids[0] == ids[1]
    with Client(url) as client:
        assert len(list(client.jobs(run="crash"))) == 2


def test_an_online_submission_and_its_spooled_twin_are_one_job(url: str, tmp_path: Path) -> None:
    with offline(tmp_path) as client:
        client.keep(ORIGIN, TOY, run="twin")
    with Client(url, spool=tmp_path) as client:
        job = client.submit(ORIGIN, TOY, run="twin")
        assert [delivery.job.id for delivery in client.send_spooled()] == [job.id]


def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(scripted: ScriptedServer, tmp_path: Path) -> None:
    scripted.script = [Answer(0, drop=True), Answer(202, job_json())]
    with Client(scripted.url, retries=0, spool=tmp_path) as client:
        client.keep(ORIGIN, TOY)
        with pytest.raises(ConnectionFailed):
            list(client.send_spooled())
        assert len(list(client.spool)) == 1
        assert [delivery.job.id for delivery in client.send_spooled()] == ["job_1"]
    first, second = scripted.seen
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


def test_a_refusal_for_good_is_moved_aside_and_does_not_hold_up_the_rest(
    scripted: ScriptedServer, tmp_path: Path
) -> None:
    scripted.script = [Answer(422, problem_json(422, code="loss_invalid")), Answer(202, job_json())]
    with Client(scripted.url, spool=tmp_path) as client:
        client.keep(ORIGIN, TOY, run="first")
        client.keep(ORIGIN, TOY, run="second")
        refused, sent = client.send_spooled()
        assert (refused.refusal.code, refused.job, sent.job.id) == ("loss_invalid", None, "job_1")
        assert list(client.spool) == []
        (aside,) = client.spool.refused()
    assert json.loads((aside.folder / "problem.json").read_text())["code"] == "loss_invalid"


MENDABLE = {
    "no key": (Answer(401, problem_json(401)), Unauthorized),
    "full": (Answer(507, problem_json(507)), ServerError),
    "down": (Answer(503, problem_json(503)), ServerError),
    "slow network": (Answer(408, problem_json(408, retryable=True)), ApiError),
    "torn on the way": (Answer(422, problem_json(422, code="digest_mismatch", retryable=True)), InvalidRequest),
    "wrong address": (Answer(404, b"<html>no such page"), NotFound),
    "another host's name": (Answer(421, problem_json(421)), ApiError),
    "redirect of a proxy": (Answer(301, b"", {"Location": "https://elsewhere/"}), ApiError),
    "refusal of a proxy": (Answer(413, b"<html>too large"), TooLarge),
}


@pytest.mark.parametrize("why", MENDABLE)
def test_what_may_be_mended_stays(scripted: ScriptedServer, tmp_path: Path, why: str) -> None:
    answer, error = MENDABLE[why]
    scripted.script = [answer]
    with Client(scripted.url, retries=0, spool=tmp_path) as client:
        client.keep(ORIGIN, TOY)
        with pytest.raises(error):
            list(client.send_spooled())
        assert len(list(client.spool)) == 1
        assert list(client.spool.refused()) == []


def test_the_same_submission_is_kept_once_and_a_forced_one_each_time(tmp_path: Path) -> None:
    with offline(tmp_path) as client:
        assert client.keep(ORIGIN, TOY).folder == client.keep(ORIGIN, TOY).folder
        assert client.keep(ORIGIN, TOY, run="other").folder != client.keep(ORIGIN, TOY).folder
        assert client.keep(ORIGIN, TOY, force=True).key != client.keep(ORIGIN, TOY, force=True).key
        assert len(list(client.spool)) == 4


def test_a_submission_is_kept_although_another_process_is_taking_out_its_twin(tmp_path: Path) -> None:
    with offline(tmp_path) as client:
        taken = client.keep(ORIGIN, TOY).folder
        (taken / "body.json").unlink()
        assert client.keep(ORIGIN, TOY).body()


def test_bytes_that_several_submissions_name_take_their_place_once(tmp_path: Path) -> None:
    with offline(tmp_path) as client:
        data = {"x": np.random.default_rng(0).normal(size=(1000, 100))}
        kept = [client.keep(ORIGIN, "mean(x)*w1*w2", data, run="r", step=step) for step in range(3)]
    (name,) = kept[0].envelope.artifacts
    files = [(one.folder / name.replace(":", "-")).stat() for one in kept]
    assert {file.st_ino for file in files} == {files[0].st_ino}
    shutil.rmtree(kept[0].folder)
    assert b"".join(next(kept[2].uploads()).body.chunks())


@contextmanager
def files_no_larger_than(num_bytes: int) -> Iterator[None]:
    """The kernel refuses to write more, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with offline(tmp_path) as client:
        with files_no_larger_than(1 << 16), pytest.raises(OSError, match="File too large"):
            client.keep({"w": np.zeros(1 << 16)}, "sum(w)")
        assert list(client.spool) == []
        assert list((tmp_path / "writing").iterdir()) == []
        client.keep({"w": np.zeros(1 << 16)}, "sum(w)")
        assert len(list(client.spool)) == 1


KILLED = """
import os, sys
from pathlib import Path
from saddlescope.client.requests import build_submission
from saddlescope.client.spool import Spool
from saddlescope.client.transport import Body
from saddlescope.client.uploads import Upload

def chunks(offset=0):
    yield b"some bytes"
    os.kill(os.getpid(), 9)

submission = build_submission(checkpoint={"w": 0.0}, loss="w", data=None, values={})
torn = type(submission)(submission.request, (Upload("sha256:" + "0" * 64, Body(20, chunks)),))
Spool(Path(sys.argv[1])).add(torn, key="torn")
"""


def test_a_process_killed_while_it_writes_leaves_no_half_submission(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -9
    (draft,) = (tmp_path / "writing").iterdir()
    os.utime(draft, (0, 0))
    with offline(tmp_path) as client:
        assert list(client.spool) == []
        client.keep(ORIGIN, TOY)
        assert len(list(client.spool)) == 1
    assert not draft.exists(), "what was abandoned a day ago is removed"


def test_a_client_without_a_spool_says_so() -> None:
    with Client(NOWHERE) as client, pytest.raises(ValueError, match="spool="):
        client.keep(ORIGIN, TOY)
