"""What a runner performs in the tests of supervision: the label `do` of the request says what."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.reports import Report, Spectrum
from saddlescope.contract.vocabulary import FailureCode, Stage
from workers.faults import JobFault
from workers.protocol import (
    OUTPUT_FOLDER,
    REPORT_FILE,
    REQUEST_FILE,
    SPECTRUM_FILE,
    STATE_FILE,
    ProgressLine,
    SavedLine,
    Succeeded,
    Task,
    escape_file,
)
from workers.runner import Tell


def perform(task: Task, tell: Tell) -> Succeeded:
    request = JobRequest.model_validate_json((Path(task.folder) / REQUEST_FILE).read_bytes())
    deed, _, argument = request.labels.get("do", "answer").partition(":")
    tell(ProgressLine(stage=Stage.LANCZOS, fraction=0.5, matvecs=7, lambda_min=-2.0, residual_norm=0.1))
    output = Path(task.folder) / OUTPUT_FOLDER
    match deed:
        case "sleep":
            time.sleep(float(argument))
        case "sleep_once":
            # Slow at its first attempt only, so that a test can kill that one and see the next one finish.
            marker = Path(argument)
            if not marker.exists():
                marker.write_text(str(os.getpid()), encoding="ascii")
                time.sleep(600)
        case "count":
            # Counts to 30, saves every number, and appends where it began: a long job in small.
            path, _, pid = argument.partition("|")
            count = 0 if task.saved is None else int(Path(task.saved).read_text())
            with Path(path).open("a") as file:
                file.write(f"{count}\n")
            Path(pid).write_text(str(os.getpid()), encoding="ascii")
            while count < 30:
                time.sleep(0.1)
                count += 1
                (output / "part").write_text(str(count))
                (output / "part").replace(output / STATE_FILE)
                tell(SavedLine(saved_matvecs=count, num_bytes=2, is_written=True))
        case "save_too_much":
            tell(SavedLine(saved_matvecs=1, num_bytes=2**50, is_written=False))
            (output / STATE_FILE).write_bytes(bytes(2000))
            tell(SavedLine(saved_matvecs=2, num_bytes=2, is_written=True))
            time.sleep(1)
        case "one_long_call":
            Path(argument).write_text(str(os.getpid()), encoding="ascii")
            torch.linalg.eigh(torch.rand(8000, 8000))
        case "last_words":
            sys.stderr.write("the end of it\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        case "deadline":
            Path(argument).write_text(str(None if task.deadline is None else task.deadline - time.monotonic()))
        case "note_pid":
            Path(argument).write_text(str(os.getpid()), encoding="ascii")
            time.sleep(600)
        case "signal":
            os.kill(os.getpid(), signal.Signals[argument])
        case "null_pointer":
            ctypes.string_at(0)
        case "fault":
            raise JobFault(FailureCode.CHECKPOINT_INVALID, "the header ends early", "/checkpoint")
        case "raise":
            raise KeyError("a bug of ours")
        case "allocate":
            torch.ones(int(argument), dtype=torch.uint8)
        case "exit":
            os._exit(int(argument))
        case "environment":
            Path(argument).write_text(
                "\n".join(f"{name}={value}" for name, value in os.environ.items()), encoding="utf-8"
            )
        case "confinement":
            facts = {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_CORE", "RLIMIT_AS")}
            status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
            facts |= {"NoNewPrivs": int(status["NoNewPrivs"]), "Threads": int(status["Threads"])}
            facts |= {"oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text())}
            facts |= {"is_session_leader": os.getsid(0) == os.getpid(), "descriptors": len(os.listdir("/proc/self/fd"))}
            Path(argument).write_text(json.dumps(facts), encoding="utf-8")
        case "child":
            if os.fork() == 0:
                Path(argument).write_text(str(os.getpid()), encoding="ascii")
                time.sleep(600)
    _answer(task, output)
    if deed == "link":
        (output / SPECTRUM_FILE).unlink()
        (output / SPECTRUM_FILE).symlink_to(argument)
    if deed == "too_large":
        (output / REPORT_FILE).write_bytes(b" " * (2**20 + 1))
    if deed == "short_vector":
        os.truncate(output / escape_file(0), 80)
    return Succeeded(device=task.device, num_escapes=2 if deed == "miscount" else 1)


def _answer(task: Task, output: Path) -> None:
    """The answer to (1 - w1 w2)^2 at the origin."""
    (output / REPORT_FILE).write_text(REPORT.model_dump_json(), encoding="utf-8")
    spectrum = Spectrum(exact=True, num_parameters=2, zero_tol=1e-12, spectral_scale=2.0, eigenvalues=(-2.0, 2.0))
    (output / SPECTRUM_FILE).write_text(spectrum.model_dump_json(), encoding="utf-8")
    half = torch.tensor(0.5**0.5, dtype=torch.float64)
    save_file({"w1": half, "w2": half.clone()}, output / escape_file(0), metadata={"step": "1.0", "job": task.job})


REPORT = Report.model_validate(
    {
        "verdict": "saddle",
        "summary": "Saddle point: 1 of 2 curvatures is negative.",
        "num_parameters": 2,
        "num_examples": 0,
        "loss": 1.0,
        "advice": {"action": "escape", "because": "the curvature is negative"},
        "criticality": {
            "is_critical": True,
            "gradient_norm": 0.0,
            "gradient_tol": None,
            "rounding_floor": 0.0,
            "sampling_error": None,
            "predicted_decrease": 0.0,
            "reference_decrease": 1.0,
            "critical_rtol": 0.01,
            "rule": "loss-relative",
        },
        "inertia": {"negative": 1, "zero": 0, "positive": 1, "zero_tol": 1e-12, "exact": True},
        "minimum_ratio": {"estimate": 0.5, "low": 0.5, "high": 0.5, "exact": True},
        "lambda_min": {"estimate": -2.0, "low": -2.0, "high": -2.0, "confidence": 1.0},
        "lambda_max": {"estimate": 2.0, "low": 2.0, "high": 2.0, "confidence": 1.0},
        "evidence": {"order": 2, "strength": "proved", "failure_probability": 0.0, "statement": "inertia"},
        "escapes": [
            {
                "index": 0,
                "curvature": -2.0,
                "residual_norm": 0.0,
                "slope": 0.0,
                "step": 1.0,
                "loss_before": 1.0,
                "loss_after": 0.25,
                "predicted_decrease": 1.0,
                "decrease": 0.75,
                "verified": True,
                "curve": {},
            }
        ],
        "numerics": {
            "method": "dense",
            "dtype": "float64",
            "device": "cpu",
            "num_matvecs": 2,
            "seconds": 0.1,
            "seed": 0,
            "spectral_scale": 2.0,
            "matvec_noise": 0.0,
            "asymmetry": 0.0,
        },
        "versions": {"torch": torch.__version__},
        "warnings": [],
    }
)
