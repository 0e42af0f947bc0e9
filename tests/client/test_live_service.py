"""The client and the command line against the whole service: real broker, database, worker and sockets."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import saddlescope
from examples import digits
from examples.embedded import running_service
from saddlescope import Client
from saddlescope.client import Conflict, InvalidRequest, JobCancelled, JobFailed, NotFound
from saddlescope.contract.vocabulary import JobStatus, Verdict

TOY = "(1 - w1*w2)**2"
ORIGIN = {"w1": 0.0, "w2": 0.0}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("client") / "data") as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as connected:
        yield connected


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SADDLESCOPE_URL": url, "COLUMNS": "200"}
    return subprocess.run(
        [Path(sys.executable).with_name("saddlescope"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_toy_is_left_by_the_way_out(client) -> None:
    weights = {name: torch.zeros((), dtype=torch.float64) for name in ORIGIN}
    job = client.submit(weights, TOY, run="toy", step=3, run_name="Toy", labels={"team": "vision"})
    report = job.wait(timeout=120)
    assert (report.verdict, report.job, job.verdict) == (Verdict.SADDLE, job.id, Verdict.SADDLE)
    assert report.spectrum.eigenvalues == pytest.approx((-2.0, 2.0))
    assert job.spectrum() == report.spectrum
    assert report.landscape is not None
    escape = report.escapes[0]
    assert abs(float(escape.vector["w1"])) == pytest.approx(1 / math.sqrt(2))
    assert escape.apply_(weights) == escape.loss_after
    assert float((1 - weights["w1"] * weights["w2"]) ** 2) == pytest.approx(escape.loss_after, abs=1e-12)
    assert [event.type for event in job.events()][-1] == "job.succeeded"
    assert (job.info.run.id, job.info.run.step, job.info.labels) == ("toy", 3, {"team": "vision"})


def test_the_landscape_is_none_when_it_was_not_asked_for(client) -> None:
    assert client.submit(ORIGIN, TOY, landscape=False).wait(timeout=120).landscape is None


def test_a_network_is_left_and_has_the_loss_that_was_promised(client) -> None:
    model = digits.network_at_zero()
    data = {name: rows[:200] for name, rows in digits.digits().items()}
    report = client.submit(model.state_dict(), digits.LOSS, data, max_matvecs=60, method="lanczos").wait(timeout=240)
    assert report.verdict is Verdict.SADDLE
    promised = report.escapes[0].apply_(model)
    assert promised < report.loss
    assert float(digits.loss_of(model, data).detach()) == pytest.approx(promised, rel=1e-5)


def test_a_model_that_was_exported_is_left_as_well(client) -> None:
    model = digits.network_at_zero()
    data = {name: rows[:100] for name, rows in digits.digits().items()}
    program = saddlescope.export_loss(model, digits.loss_of, {name: rows[:8] for name, rows in data.items()})
    report = client.submit(model.state_dict(), program, data, method="lanczos", gradient_tol=0.1).wait(timeout=240)
    assert report.verdict is Verdict.SADDLE
    promised = report.escapes[0].apply_(model)
    assert float(digits.loss_of(model, data).detach()) == pytest.approx(promised, rel=1e-5)
    assert promised < report.loss


def test_the_same_submission_key_makes_one_job(client) -> None:
    first = client.submit(ORIGIN, TOY, idempotency_key="once", force=True)
    assert client.submit(ORIGIN, TOY, idempotency_key="once", force=True).id == first.id
    with pytest.raises(InvalidRequest, match="idempotency_key_reused"):
        client.submit(ORIGIN, "w1**2 + w2**2", idempotency_key="once")


def test_a_known_answer_comes_back_at_once_unless_forced(client) -> None:
    first = client.submit(ORIGIN, TOY + " + 0")
    first.wait(timeout=120)
    again = client.submit(ORIGIN, TOY + " + 0")
    assert (again.done, again.info.deduplicated, again.id == first.id) == (True, True, False)
    assert again.wait(timeout=120).verdict == first.wait(timeout=120).verdict
    assert client.submit(ORIGIN, TOY + " + 0", force=True).info.deduplicated is False


def test_a_wrong_loss_is_told_by_the_service_with_its_place(client) -> None:
    with pytest.raises(InvalidRequest, match="/loss/expression") as caught:
        client.submit(ORIGIN, "__import__('os')")
    assert caught.value.request_id


def test_a_failed_job_says_what_to_mend(client) -> None:
    job = client.submit({"w": torch.zeros(2, dtype=torch.float64)}, "sum(log(w))")
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=120)
    assert caught.value.code == "non_finite_loss"
    with pytest.raises(JobFailed):
        client.job(job.id).report()
    assert job.retry().info.retry_of == job.id


def test_a_cancelled_job_raises_and_stays_cancelled(client) -> None:
    model = digits.network_at_zero()
    job = client.submit(model.state_dict(), digits.LOSS, digits.digits(), method="dense", seed=7)
    with pytest.raises(Conflict, match="job_not_finished"):
        job.report()
    job.cancel()
    with pytest.raises(JobCancelled):
        job.wait(timeout=120)
    assert job.cancel().status is JobStatus.CANCELLED


def test_what_does_not_exist_is_not_found(client) -> None:
    with pytest.raises(NotFound):
        client.job("job_00000000-0000-7000-8000-000000000000")


def test_jobs_are_listed_by_what_was_said_of_them(client) -> None:
    ids = [client.submit(ORIGIN, TOY, force=True, labels={"list": "yes"}, run="listed").id for _ in range(3)]
    assert [job.id for job in client.jobs(labels={"list": "yes"})] == ids[::-1]
    assert [job.id for job in client.jobs(run="listed", limit=2)] == ids[:0:-1]
    assert list(client.jobs(run="never")) == []


def test_a_script_submits_gates_and_takes_the_way_out(url, tmp_path) -> None:
    save_file({name: torch.zeros(1, dtype=torch.float64) for name in ORIGIN}, tmp_path / "model.safetensors")
    (tmp_path / "loss.json").write_text(json.dumps({"kind": "expression", "expression": "sum((x - w1*w2)**2)"}))
    np.savez(tmp_path / "data.npz", x=np.ones((1, 1)))
    submitted = command(
        url,
        *("submit", "--checkpoint", str(tmp_path / "model.safetensors"), "--loss", str(tmp_path / "loss.json")),
        *("--data", str(tmp_path / "data.npz"), "--run", "script", "--step", "1", "--label", "a=b"),
        *("--option", "method=dense", "--option", "seed=3", "--wait", "--json"),
    )
    assert submitted.returncode == 0, submitted.stderr
    report = json.loads(submitted.stdout)
    assert (report["verdict"], report["numerics"]["seed"]) == ("saddle", 3)
    job = report["job"]

    shown = command(url, "show", job, "--fail-on", "saddle")
    assert shown.returncode == 3
    assert "saddle" in shown.stdout
    assert "Ways out" in shown.stdout
    assert command(url, "show", job, "--fail-on", "plateau").returncode == 0
    assert command(url, "watch", job).returncode == 0
    assert [entry["id"] for entry in json.loads(command(url, "ls", "--run", "script", "--json").stdout)] == [job]
    assert job in command(url, "ls", "--label", "a=b").stdout

    assert json.loads(command(url, "spectrum", job, "--json").stdout)["eigenvalues"] == pytest.approx([-2, 2])
    assert command(url, "spectrum", job, "--output", str(tmp_path / "spectrum.csv")).returncode == 0
    with (tmp_path / "spectrum.csv").open() as file:
        assert len(list(csv.reader(file))) >= 2

    moved = tmp_path / "moved.safetensors"
    checkpoint = str(tmp_path / "model.safetensors")
    applied = command(url, "escape", job, "--apply", checkpoint, "--output", str(moved), "--json")
    assert json.loads(applied.stdout)["file"] == str(moved)
    weights = load_file(moved)
    assert float((1 - weights["w1"] * weights["w2"]) ** 2) == pytest.approx(0, abs=1e-12)
    assert command(url, "escape", job, "--output", str(tmp_path / "u")).returncode == 0
    assert load_file(tmp_path / "u").keys() == ORIGIN.keys()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit", "--checkpoint", '{"w": 0.0}', "--loss", "log(w)", "--wait"], 1, "non_finite_loss"),
        (["submit", "--checkpoint", "nowhere.pt", "--loss", "w"], 2, "nowhere.pt"),
        (["submit", "--checkpoint", '{"w": 0.0}', "--loss", "w", "--option", "metod=dense"], 2, "metod"),
        (["submit", "--checkpoint", '{"w": 0.0}', "--loss", "w +"], 2, "/loss/expression"),
        (["submit", "--checkpoint", '{"w": 0.0', "--loss", "w"], 2, "no JSON"),
        (["show", "job_00000000-0000-7000-8000-000000000000"], 2, "not_found"),
        (["show", "job_1", "--url", "http://127.0.0.1:9"], 4, "cannot reach"),
    ],
)
def test_every_failure_has_its_exit_code(url, arguments, code, said) -> None:
    done = command(url, *arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_cancelling_from_the_shell(url, client) -> None:
    job = client.submit(digits.network_at_zero().state_dict(), digits.LOSS, digits.digits(), method="dense", seed=8)
    assert command(url, "cancel", job.id, "--json").returncode == 0
    assert command(url, "watch", job.id).returncode == 1


def test_a_step_without_its_run_is_a_wrong_command() -> None:
    wrong = command("http://127.0.0.1:9", "submit", "--checkpoint", json.dumps(ORIGIN), "--loss", TOY, "--step", "3")
    assert wrong.returncode == 2
    assert "give --run too" in wrong.stderr


def test_a_script_writes_to_a_folder_and_sends_it_later(url, client, tmp_path) -> None:
    toy = ("submit", "--checkpoint", json.dumps(ORIGIN), "--loss", TOY, "--run", "folder")
    kept = command("http://127.0.0.1:9", *toy, "--spool", str(tmp_path), "--json")
    assert (kept.returncode, json.loads(kept.stdout)["object"]) == (0, "spooled")
    assert command("http://127.0.0.1:9", *toy, "--spool", str(tmp_path), "--wait").returncode == 2
    assert command("http://127.0.0.1:9", "send", str(tmp_path)).returncode == 4
    sent = command(url, "send", str(tmp_path), "--json")
    assert (sent.returncode, [job.id for job in client.jobs(run="folder")]) == (0, [json.loads(sent.stdout)["id"]])
    assert command(url, "send", str(tmp_path)).stdout == ""
    command(url, "submit", "--checkpoint", '{"w": 0.0}', "--loss", "w +", "--spool", str(tmp_path))
    refused = command(url, "send", str(tmp_path))
    assert (refused.returncode, "/loss/expression" in refused.stderr) == (2, True)


def test_two_jobs_are_compared_and_saved_from_the_shell(url, client, tmp_path) -> None:
    saddle, minimum = client.submit(ORIGIN, TOY, run="pair"), client.submit({"w": 1.0}, "(w - 1)**2", run="pair")
    for job in (saddle, minimum):
        job.wait(timeout=120)
    found = json.loads(command(url, "diff", saddle.id, minimum.id, "--json").stdout)
    values = {entry["name"]: (entry["before"], entry["after"]) for entry in found["differences"]}
    assert values["verdict"] == ("saddle", "local_minimum")
    assert values["lambda_min"] == pytest.approx((-2.0, 2.0))
    assert "local_minimum" in command(url, "diff", saddle.id, minimum.id).stdout

    archive, table = tmp_path / "job.zip", tmp_path / "jobs.csv"
    assert command(url, "export", saddle.id, "--output", str(archive)).returncode == 0
    with zipfile.ZipFile(archive) as opened:
        assert "report.json" in opened.namelist()
    saved = command(url, "export", "--run", "pair", "--output", str(table), "--json")
    assert json.loads(saved.stdout) == {"object": "file", "file": str(table), "bytes": table.stat().st_size}
    with table.open() as file:
        assert {row["id"] for row in csv.DictReader(file)} == {saddle.id, minimum.id}
    assert command(url, "export", saddle.id, "--output", str(table)).returncode == 2
    assert list(tmp_path.glob("*.part")) == []


def test_the_shell_completes_commands_and_jobs(url, client) -> None:
    job = client.submit(ORIGIN, TOY)

    def completed(*words: str) -> str:
        environment = {"_SADDLESCOPE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "SADDLESCOPE_URL": url}
        done = subprocess.run(
            [Path(sys.executable).with_name("saddlescope")],
            env=os.environ | environment | {"COMP_CWORD": str(len(words) - 1)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    assert "spectrum" in completed("saddlescope", "sp")
    assert job.id in completed("saddlescope", "show", job.id[:-4])


def test_the_command_line_and_the_callbacks_are_loaded_without_torch() -> None:
    code = (
        "import sys, saddlescope; import saddlescope.client.command_line; saddlescope.callbacks.PlainCallback; "
        "saddlescope.callbacks.HuggingFaceCallback; saddlescope.tracking; raise SystemExit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
