"""Callbacks with a real service: what training asks is answered, and it leaves its saddles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from callback_models import NOWHERE, TOY, Toy, train, waiting_in

from examples import digits
from examples.embedded import running_service
from saddlescope import Client, export_loss
from saddlescope.callbacks import Answer, PlainCallback, Training

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("callbacks") / "data") as address:
        yield address


def test_a_run_that_stands_on_a_saddle_is_taken_off_by_the_measured_step(url: str, tmp_path: Path) -> None:
    model = Toy()
    with PlainCallback(model, loss=TOY, run="stuck", every=3, on_verdict="escape", url=url, spool=tmp_path) as callback:
        train(model, callback, until=lambda: float(model().detach()) < 1e-9)
    assert abs(float((model.w1 * model.w2).detach()) - 1) < 1e-4
    assert callback.observer.num_failures == 0


def test_a_run_that_has_gone_on_is_measured_again_where_it_is(url: str, tmp_path: Path) -> None:
    model = digits.network_at_zero()
    data = {name: rows[:100] for name, rows in digits.digits().items()}
    program = export_loss(model, digits.loss_of, data)
    seen: list[float] = []

    def rebase() -> float:
        with torch.no_grad():
            seen.append(float(digits.loss_of(model, data)))
        return seen[-1]

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    watching = {"every": 20, "on_verdict": "escape", "rebase": rebase, "url": url, "spool": tmp_path}
    give_up = time.monotonic() + 120
    with PlainCallback(
        model, loss=program, run="drifting", data=data, request={"gradient_tol": 1.0}, **watching
    ) as callback:
        while not model[0].weight.count_nonzero():
            assert time.monotonic() < give_up
            optimizer.zero_grad()
            loss = digits.loss_of(model, data)
            loss.backward()
            optimizer.step()
            callback.step(loss)
            time.sleep(0.005)
    assert callback.observer.num_failures == 0
    assert min(seen[1:5]) < seen[0]
    assert rebase() <= min(seen[1:5]) + 1e-2


def test_every_answer_reaches_a_callable_on_the_training_thread_with_what_it_may_change(
    url: str, tmp_path: Path
) -> None:
    model, seen = Toy(), []

    def react(answer: Answer, training: Training) -> None:
        seen.append((answer.verdict, answer.step, training.step >= answer.step, training.is_at_snapshot()))
        assert training.model is model
        raise ArithmeticError("a mistake of the user's")

    told: list[str] = []
    with PlainCallback(
        *(model,),
        loss=TOY,
        run="told",
        every=10,
        on_verdict=react,
        url=url,
        spool=tmp_path,
        tell=[lambda answer: told.append(answer.url)],
    ) as callback:
        train(model, callback, until=lambda: len(seen) >= 2)
    assert seen[0] == ("saddle", 10, True, True)
    assert callback.observer.num_failures == len(seen), "and training went on"
    assert told[0].startswith(url)


def test_a_plateau_is_asked_about_and_a_falling_loss_is_not(url: str, tmp_path: Path) -> None:
    from saddlescope.callbacks import Plateau  # noqa: PLC0415

    model = Toy(0.5, 0.5)
    with PlainCallback(
        model, loss=TOY, run="falls", plateau=Plateau(window=5, rtol=1e-4), url=NOWHERE, spool=tmp_path / "falls"
    ) as callback:
        train(model, callback, until=lambda: float(model().detach()) < 0.5, rate=0.01)
    assert waiting_in(tmp_path / "falls") == 0
    flat, answers = Toy(), []
    with PlainCallback(
        flat,
        *(),
        loss=TOY,
        run="flat",
        plateau=Plateau(window=5),
        on_verdict=lambda answer, training: answers.append(answer.step),
        url=url,
        spool=tmp_path / "flat",
    ) as callback:
        train(flat, callback, until=lambda: len(answers) >= 1)
    assert answers[0] == 10


KILLED = """
import os, sys, time
sys.path[:0] = ["tests/client"]
from callback_models import NOWHERE, TOY, Toy, waiting_in
from pathlib import Path
from saddlescope.callbacks import PlainCallback
spool = Path(sys.argv[1])
model = Toy()
callback = PlainCallback(model, loss=TOY, run="killed", every=1, url=NOWHERE, spool=spool)
step = 0
while waiting_in(spool) < 3:
    step += 1
    callback.step(1.0)
    time.sleep(0.02)
print("ready", flush=True)
while True:
    step += 1
    callback.step(1.0)
"""


def test_what_a_killed_run_had_spooled_is_sent_once_by_the_next(url: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "ready\n"
        os.kill(killed.pid, signal.SIGKILL)
    num_waiting = waiting_in(tmp_path)
    assert num_waiting >= 3
    model = Toy()
    with PlainCallback(model, loss=TOY, run="next", every=10**9, url=url, spool=tmp_path) as callback:
        train(model, callback, until=lambda: not waiting_in(tmp_path))
    with Client(url) as client:
        steps = [job.info.run.step for job in client.jobs(run="killed")]
    assert len(steps) == len(set(steps)) == num_waiting


def test_a_disk_that_takes_nothing_sends_from_memory(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    model, answers = Toy(), []
    with PlainCallback(
        model,
        loss=TOY,
        run="no-disk",
        every=5,
        on_verdict=lambda answer, training: answers.append(answer.verdict),
        url=url,
        spool=tmp_path / "file",
    ) as callback:
        train(model, callback, until=lambda: bool(answers))
    assert answers[0] == "saddle"
    assert callback.observer.num_failures == 0
