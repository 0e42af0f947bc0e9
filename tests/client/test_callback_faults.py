"""Whatever is wrong with the service, the disk or the callback's own arguments, training goes on and nothing is raised."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest
import torch
from callback_models import NOWHERE, TOY, Toy, silent_server, train, wait_until, waiting_in
from known_reports import report_with
from scripted_server import Answer as Scripted
from scripted_server import ScriptedServer, job_json, problem_json, serve
from torch import nn

from saddlescope import Client
from saddlescope.callbacks import LowerLearningRate, PlainCallback, Plateau, Training
from saddlescope.callbacks.actions import rebased
from saddlescope.callbacks.answers import Answer, Snapshot
from saddlescope.callbacks.asking import Asker, Question
from saddlescope.callbacks.boundary import Boundary
from saddlescope.callbacks.occasions import Occasions
from saddlescope.callbacks.snapshots import copy_state, unwrapped
from saddlescope.results import EscapeDirection

FAULTS: dict[str, tuple[Scripted, str]] = {
    "no answer": (Scripted(0, drop=True), "waiting"),
    "unavailable": (Scripted(503, problem_json(503)), "waiting"),
    "full": (Scripted(507, problem_json(507)), "waiting"),
    "busy": (Scripted(429, problem_json(429), {"Retry-After": "0"}), "waiting"),
    "wrong key": (Scripted(401, problem_json(401)), "waiting"),
    "no Saddlescope": (Scripted(200, b"<html>"), "waiting"),
    "refused": (Scripted(422, problem_json(422)), "refused"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_training_goes_on_and_the_question_waits_or_is_laid_aside(
    scripted: ScriptedServer, tmp_path: Path, fault: str
) -> None:
    answer, kept_in = FAULTS[fault]
    # What the service will never take, it refuses when the bytes are there.
    scripted.script = [Scripted(200), answer] if kept_in == "refused" else [answer]
    model = Toy()
    with PlainCallback(model, loss=TOY, run="r", every=10, url=scripted.url, spool=tmp_path) as callback:
        train(model, callback, until=lambda: len(scripted.seen) > 1 and any((tmp_path / kept_in).glob("*")))
    assert callback.observer.num_failures == 0
    assert any((tmp_path / kept_in).glob("*"))


def test_an_answer_whose_way_out_is_gone_does_not_hold_up_the_next(tmp_path: Path) -> None:
    told: list[int] = []
    report = report_with([{"w1": torch.ones((), dtype=torch.float64)}]).to_json().encode()
    done = job_json(status="succeeded", done=True, verdict="saddle")
    stopped = report_with([], action="stop").to_json().encode()
    with serve() as service:
        service.script = [
            # Each time: are the bytes known, the submission, the job, its report; then the vector.
            *(Scripted(200), Scripted(202, done), Scripted(200, done), Scripted(200, report)),
            Scripted(404, problem_json(404)),
            *(Scripted(200), Scripted(202, done), Scripted(200, done), Scripted(200, stopped)),
        ]
        asker = Asker(
            Client(service.url, retries=0, spool=tmp_path, progress=False),
            Question(TOY, None, "r", {}, 16),
            [lambda answer: told.append(answer.step)],
        )
        asker.start()
        asker.ask(Snapshot(1, Toy().state_dict()))
        wait_until(lambda: len(service.seen) == 5)
        asker.ask(Snapshot(2, Toy().state_dict()))
        wait_until(lambda: bool(told))
        asker.close(10)
    assert told == [2]


def test_training_ends_while_the_service_still_says_nothing(tmp_path: Path) -> None:
    with silent_server() as url:
        model = Toy()
        callback = PlainCallback(model, loss=TOY, run="r", every=1, url=url, spool=tmp_path)
        train(model, callback, until=lambda: callback.observer.num_dropped > 3)
        callback.close(seconds=0.1)
        assert waiting_in(tmp_path) >= 1
        assert [thread for thread in threading.enumerate() if thread.name == "saddlescope-callback"], "it still waits"


def test_no_more_waits_on_disk_than_was_allowed(tmp_path: Path) -> None:
    model = Toy()
    with PlainCallback(model, loss=TOY, run="r", every=1, url=NOWHERE, spool=tmp_path, max_spooled=3) as callback:
        train(model, callback, until=lambda: waiting_in(tmp_path) >= 3)
        num_dropped = callback.observer.num_dropped
        train(model, callback, until=lambda: callback.observer.num_dropped > num_dropped + 50)
    # One more may have been in memory when the third was written.
    assert 3 <= waiting_in(tmp_path) <= 4


def test_a_model_that_cannot_be_copied_does_not_stop_training(tmp_path: Path) -> None:
    class Broken(Toy):
        def state_dict(self, *_: object, **__: object) -> dict[str, torch.Tensor]:
            raise RuntimeError("out of memory")

    model = Broken()
    with PlainCallback(model, loss=TOY, run="r", every=1, url=NOWHERE, spool=tmp_path) as callback:
        train(model, callback, until=lambda: callback.observer.num_failures > 3)


def test_faults_are_logged_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    boundary = Boundary("this")
    with caplog.at_level(logging.WARNING, "saddlescope.callbacks"):
        for _ in range(100):
            with boundary:
                raise OSError("again")
    assert len(caplog.records) == 7  # 1, 2, 4, …, 64


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), Boundary("this"):
        raise KeyboardInterrupt


def test_only_the_first_of_several_processes_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    model = Toy()
    with PlainCallback(model, loss=TOY, run="r", every=1, url=NOWHERE, spool=tmp_path) as callback:
        for _ in range(5):
            callback.step(1.0)
    assert list(tmp_path.iterdir()) == []


def test_one_of_several_processes_is_not_changed_alone(
    scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    scripted.script = [Scripted(0, drop=True)]
    with (
        caplog.at_level(logging.WARNING, "saddlescope.callbacks"),
        PlainCallback(
            Toy(), loss=TOY, run="r", every=1, on_verdict="escape", url=scripted.url, spool=tmp_path
        ) as callback,
    ):
        callback.step(1.0)
    assert "answers are logged, and not acted on" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [{"on_verdict": "explode"}, {"every": 0}, {"evry": 3}, {"url": "nowhere"}, {"data": {"x": object()}}],
)
def test_a_wrong_argument_is_told_before_training(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        PlainCallback(Toy(), loss=TOY, run="r", spool=tmp_path, **wrong)  # type: ignore[arg-type]


def test_every_n_steps_is_every_n_steps_also_where_steps_are_skipped() -> None:
    occasions = Occasions(every=10, plateau=None)
    assert [step for step in range(1, 41) if occasions.is_due(step)] == [10, 20, 30, 40]
    occasions = Occasions(every=10, plateau=None)
    assert [step for step in (3, 9, 14, 15, 39, 40, 49) if occasions.is_due(step)] == [14, 39, 40]


@pytest.mark.parametrize("as_tensors", [False, True])
def test_a_plateau_is_a_window_whose_mean_is_hardly_below_the_one_before(as_tensors: bool) -> None:
    def due(losses: list[float]) -> list[int]:
        occasions = Occasions(every=None, plateau=Plateau(window=10, rtol=0.01))
        steps = []
        for step, loss in enumerate(losses, 1):
            occasions.saw(torch.tensor(loss, dtype=torch.float64) if as_tensors else loss)
            if occasions.is_due(step):
                steps.append(step)
        return steps

    assert due([1.0] * 40) == [20, 40]
    assert due([0.99**step for step in range(60)]) == []
    assert due([float("nan")] * 60) == []
    assert due([1.0, 2.0] * 20) == [20, 40], "noise that does not fall is flat"


def saddle(vector: dict[str, torch.Tensor], step: float) -> EscapeDirection:
    return report_with([vector], step=step).escapes[0]


def test_a_way_that_leads_nowhere_from_here_is_undone_bit_for_bit() -> None:
    model = nn.Linear(3, 2)
    before = copy_state(model)
    u = {name: torch.full_like(tensor, 0.1) for name, tensor in before.items()}
    losses = iter([1.0, 1.5, 1.2, float("nan"), 1.0])
    assert rebased(saddle(u, 0.3), model, lambda: next(losses)) == (1.0, 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_measurement_that_fails_half_way_leaves_the_model_as_it_was() -> None:
    model = nn.Linear(3, 2)
    before = copy_state(model)
    u = {name: torch.full_like(tensor, 0.1) for name, tensor in before.items()}
    losses = iter([1.0, 0.5])
    with pytest.raises(StopIteration):
        rebased(saddle(u, 0.3), model, lambda: next(losses))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_best_of_the_steps_is_kept() -> None:
    model = nn.Linear(3, 2, bias=False)
    start = model.weight.detach().clone()
    u = {"weight": torch.full((2, 3), 1.0)}
    target = start - 0.35
    loss = lambda: float(((model.weight.detach() - target) ** 2).sum())  # noqa: E731
    before, after = rebased(saddle(u, 0.7), model, loss)
    torch.testing.assert_close(model.weight.detach(), target)
    assert after < 1e-9 < before


def test_the_learning_rate_falls_at_a_minimum_alone_and_stays_low_under_a_scheduler() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    training = Training(model, (optimizer,), (scheduler,), 7, lambda: False)
    for verdict, action, rate in (
        ("saddle", "escape", 0.4),
        ("local_minimum", "stop", 0.2),
        ("flat_minimum", "stop", 0.1),
    ):
        LowerLearningRate()(Answer(5, report_with([], verdict=verdict, action=action), "job_1", ""), training)
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_a_snapshot_is_a_copy_under_the_users_own_names() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    compiled = torch.compile(model, backend="eager")
    assert unwrapped(compiled) is model
    snapshot = copy_state(unwrapped(compiled))
    assert snapshot.keys() == model.state_dict().keys()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert not torch.equal(snapshot["0.weight"], model[0].weight)


def test_a_shard_is_not_taken_for_the_checkpoint() -> None:
    class Sharded(nn.Module):
        def state_dict(self, *_: object, **__: object) -> dict[str, torch.Tensor]:
            tensor = torch.zeros(3)
            tensor.placements = ("Shard(0)",)
            return {"w": tensor}

    with pytest.raises(ValueError, match="sharded"):
        copy_state(Sharded())


def test_a_question_that_failed_is_logged_and_forgotten(
    scripted: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = json.loads(problem_json(422, code="parameter_mismatch"))
    scripted.script = [Scripted(202, job_json()), Scripted(200, job_json(status="failed", done=True, error=error))]
    model = Toy()
    with (
        caplog.at_level(logging.INFO, "saddlescope.callbacks"),
        PlainCallback(model, loss=TOY, run="r", every=10**6, url=scripted.url, spool=tmp_path) as callback,
    ):
        callback.step(1.0, step=10**6)
        train(model, callback, until=lambda: "parameter_mismatch" in caplog.text)
    assert callback.observer.num_failures == 0


def test_a_run_that_diverges_asks_without_its_loss(tmp_path: Path) -> None:
    with PlainCallback(Toy(), loss=TOY, run="r", every=1, url=NOWHERE, spool=tmp_path) as callback:
        callback.step(torch.tensor(float("nan")))
    (body,) = tmp_path.glob("waiting/*/body.json")
    assert "metadata" not in json.loads(body.read_text(), parse_constant=pytest.fail)
