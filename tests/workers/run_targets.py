"""What a runner does in the tests of supervision: the label `do` of the request says what.

What needs a file's name happens before the lock; there are none after it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.reports import Report, Spectrum
from saddlescope.contract.vocabulary import FailureCode, Stage
from workers.faults import JobFault
from workers.openings import Openings, open_files
from workers.protocol import (
    OUTPUT_FOLDER,
    REPORT_FILE,
    SPECTRUM_FILE,
    STATE_FILES,
    ProgressLine,
    SavedLine,
    Succeeded,
    Task,
    escape_file,
)
from workers.runner import Deed, Tell
from workers.sandbox.attacks import ACTIONS, Scene
from workers.vectors import safetensors_pieces


def open_all(task: Task) -> Openings:
    opened = open_files(task)
    deed, argument = _asked(opened)
    match deed:
        case "sleep_once":
            # Slow at its first attempt only, so that a test can kill that one and see the next one finish.
            marker = Path(argument)
            if not marker.exists():
                marker.write_text(str(os.getpid()), encoding="ascii")
                return replace(opened, artifacts={"first attempt": opened.request})
        case "count":
            begins, _, pid = argument.partition("|")
            Path(pid).write_text(str(os.getpid()), encoding="ascii")
            return replace(opened, artifacts={"begins": os.open(begins, os.O_WRONLY | os.O_CREAT | os.O_APPEND)})
        case "one_long_call":
            Path(argument).write_text(str(os.getpid()), encoding="ascii")
        case "deadline":
            Path(argument).write_text(str(None if task.deadline is None else task.deadline - time.monotonic()))
        case "note_pid":
            Path(argument).write_text(str(os.getpid()), encoding="ascii")
        case "environment":
            Path(argument).write_text(
                "\n".join(f"{name}={value}" for name, value in os.environ.items()), encoding="utf-8"
            )
        case "confinement":
            status, score = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("status", "oom_score_adj"))
            facts = os.open(argument, os.O_WRONLY | os.O_CREAT)
            return replace(opened, artifacts={"status": status, "score": score, "facts": facts})
        case "child":
            return replace(opened, artifacts={"child": os.open(argument, os.O_WRONLY | os.O_CREAT)})
        case "link":
            planted = Path(task.folder) / OUTPUT_FOLDER / SPECTRUM_FILE
            planted.unlink()
            planted.symlink_to(argument)
    return opened


def perform(task: Task, opened: Openings, tell: Tell) -> Succeeded:
    deed, argument = _asked(opened)
    tell(ProgressLine(stage=Stage.LANCZOS, fraction=0.5, matvecs=7, lambda_min=-2.0, residual_norm=0.1))
    match deed:
        case "sleep":
            time.sleep(float(argument))
        case "sleep_once" if opened.artifacts:
            time.sleep(600)
        case "note_pid":
            time.sleep(600)
        case "count":
            # Counts to 30, saves every number, and appends where it began: a long job in small.
            count = 0 if opened.saved is None else int(os.pread(opened.saved, 16, 0))
            os.write(opened.artifacts["begins"], f"{count}\n".encode())
            while count < 30:
                time.sleep(0.1)
                count += 1
                _save(opened, tell, str(count).encode(), file=STATE_FILES[count % 2], matvecs=count)
        case "save_too_much":
            tell(SavedLine(saved_matvecs=1, num_bytes=2**50))
            _save(opened, tell, bytes(2000), file=STATE_FILES[0], matvecs=2)
            time.sleep(1)
        case "one_long_call":
            torch.linalg.eigh(torch.rand(8000, 8000))
        case "last_words":
            sys.stderr.write("the end of it\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
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
        case "attack":
            ACTIONS[argument](NOWHERE)
        case "confinement":
            facts = {name: resource.getrlimit(getattr(resource, name))[0] for name in ("RLIMIT_CORE", "RLIMIT_AS")}
            lines = os.pread(opened.artifacts["status"], 2**16, 0).decode().splitlines()
            status = dict(line.split(":\t", 1) for line in lines)
            facts |= {name: int(status[name].split()[0]) for name in ("NoNewPrivs", "Threads", "Seccomp", "Uid")}
            facts |= {
                "capabilities": int(status["CapEff"], 16),
                "is_session_leader": status["NSsid"] == status["NSpid"],
            }
            facts |= {"oom_score_adj": int(os.pread(opened.artifacts["score"], 16, 0))}
            unknown = set(range(256)) - opened.descriptors() - {0, 1, 2}
            facts |= {"descriptors": sorted(kind for kind in map(_kind, unknown) if kind is not None)}
            os.write(opened.artifacts["facts"], json.dumps(facts).encode())
        case "child":
            if (child := os.fork()) == 0:
                time.sleep(600)
            os.write(opened.artifacts["child"], str(child).encode())
    _answer(task, opened)
    if deed == "too_large":
        opened.write(REPORT_FILE, b" " * (2**20 + 1))
    if deed == "short_vector":
        os.ftruncate(opened.outputs[escape_file(0)], 80)
    return Succeeded(device=task.device, num_escapes=2 if deed == "miscount" else 1)


DEED = Deed(open=open_all, perform=perform)

NOWHERE = Scene(
    secret=Path("/etc/passwd"),
    folder=Path("/tmp"),
    parent=1,
    address=("127.0.0.1", 9),
    abstract="\0nobody",
    memory_bytes=2**60,
)


def _asked(opened: Openings) -> tuple[str, str]:
    request = JobRequest.model_validate_json(os.pread(opened.request, 2**20, 0))
    deed, _, argument = request.labels.get("do", "answer").partition(":")
    return deed, argument


def _kind(descriptor: int) -> str | None:
    """`-` for a file, `p` for a pipe, `s` for a socket, `?` for what has no kind; None if it is not open."""
    try:
        return stat.filemode(os.fstat(descriptor).st_mode)[0]
    except OSError:
        return None


def _save(opened: Openings, tell: Tell, state: bytes, *, file: str, matvecs: int) -> None:
    digest = opened.rewrite(file, [memoryview(state)])
    tell(SavedLine(saved_matvecs=matvecs, num_bytes=2, file=file, digest=digest))


def _answer(task: Task, opened: Openings) -> None:
    """The answer to (1 - w1 w2)^2 at the origin."""
    opened.write(REPORT_FILE, REPORT.model_dump_json().encode())
    spectrum = Spectrum(exact=True, num_parameters=2, zero_tol=1e-12, spectral_scale=2.0, eigenvalues=(-2.0, 2.0))
    opened.write(SPECTRUM_FILE, spectrum.model_dump_json().encode())
    half = torch.tensor(0.5**0.5, dtype=torch.float64)
    for piece in safetensors_pieces({"w1": half, "w2": half}, {"step": "1.0", "job": task.job}):
        opened.write(escape_file(0), piece)


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
