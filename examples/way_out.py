"""Does the way out help? Plateaus of real networks, from each of which the same optimizer goes on in four ways.

    python -m examples.way_out                          every case, ten seeds; writes docs/figures/data/way_out.json
    python -m examples.way_out three_layers --seeds 2   one case, two seeds; writes nothing without --output

*alone*: as if nothing had happened. *restarted*: with an optimizer that has forgotten its past, as after an escape. *random*:
from a point as far away as the escape goes, in a random direction. *escape*: from θ + step·u.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import torch
from torch import nn
from torch.func import functional_call

import saddlescope
from examples.plateaus.cases import CASES, Case
from examples.plateaus.training import Plateau, train

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "figures" / "data" / "way_out.json"
KEPT_EVERY = 10


@dataclass(frozen=True)
class Outcome:
    """One seed: what the analysis said of the plateau, and every tenth loss of each way on."""

    seed: int
    num_steps_before: int
    verdict: str
    action: str
    loss: float
    gradient_norm: float
    lambda_min: float
    escape_length: float | None
    loss_after_escape: float | None
    analysis_seconds: float
    num_matvecs: int
    step_seconds: float
    curves: dict[str, list[float]]


def analyse(plateau: Plateau) -> saddlescope.AnalysisReport:
    """By Lanczos at any size, in a second or so on one core; "auto" counts every eigenvalue up to 5,000 parameters."""
    task, model = plateau.task, plateau.model
    return saddlescope.analyze(
        lambda params, batch: task.loss_of(lambda *inputs: functional_call(model, params, inputs), batch),
        {name: parameter.detach().clone() for name, parameter in model.named_parameters()},
        task.data,
        weight_decay=task.weight_decay,
        lower_bound=0.0,
        method="lanczos",
        density=False,
        landscape=False,
    )


def follow(case: Case, seed: int, *, num_steps: int) -> Outcome:
    plateau = case.reach(seed)
    began = time.perf_counter()
    report = analyse(plateau)
    analysis_seconds = time.perf_counter() - began
    task, way_out = plateau.task, next(iter(report.escapes), None)

    alone = copy.deepcopy(plateau.model)
    began = time.perf_counter()
    curves = {"alone": train(alone, task, plateau.optimizer_for(alone), num_steps=num_steps)}
    step_seconds = (time.perf_counter() - began) / num_steps
    starts = {"restarted": copy.deepcopy(plateau.model)}
    if way_out is not None:
        escaped = starts["escape"] = copy.deepcopy(plateau.model)
        way_out.apply_(escaped)
        starts["random"] = moved_at_random(plateau.model, distance=abs(way_out.step), seed=seed)
    for name, start in starts.items():
        curves[name] = train(start, task, task.optimizer(start), num_steps=num_steps)
    return Outcome(
        seed=seed,
        num_steps_before=plateau.num_steps,
        verdict=report.verdict.value,
        action=report.advice.action.value,
        loss=report.loss,
        gradient_norm=report.criticality.gradient_norm,
        lambda_min=report.lambda_min.estimate,
        escape_length=None if way_out is None else abs(way_out.step),
        loss_after_escape=None if way_out is None else way_out.loss_after,
        analysis_seconds=round(analysis_seconds, 3),
        num_matvecs=report.numerics.num_matvecs,
        step_seconds=round(step_seconds, 5),
        curves={name: [float(f"{loss:.4g}") for loss in losses[::KEPT_EVERY]] for name, losses in curves.items()},
    )


def moved_at_random(model: nn.Module, *, distance: float, seed: int) -> nn.Module:
    """θ + distance·z/‖z‖ with a normal z."""
    draws = torch.Generator().manual_seed(1000 + seed)
    moved = copy.deepcopy(model)
    direction = [torch.randn(part.shape, generator=draws) for part in moved.parameters()]
    norm = torch.cat([part.flatten() for part in direction]).norm()
    with torch.no_grad():
        for parameter, part in zip(moved.parameters(), direction, strict=True):
            parameter.add_(part, alpha=float(distance / norm))
    return moved


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else "unknown", "threads": torch.get_num_threads()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, help="steps from the plateau; each case's own number without it")
    parser.add_argument(
        "--output", type=Path, help="where the results go; with all cases, docs/figures/data/way_out.json"
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.cases) - {case.name for case in CASES}:
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    chosen = [case for case in CASES if not given.cases or case.name in given.cases]
    torch.set_num_threads(1)
    results = []
    for case in chosen:
        num_steps = given.steps or case.num_steps
        print(f"{case.title}\n  {case.setting}", flush=True)
        outcomes = [follow(case, seed, num_steps=num_steps) for seed in range(given.seeds)]
        for outcome in outcomes:
            last = ", ".join(f"{name} {curve[-1]:.4g}" for name, curve in outcome.curves.items())
            print(
                f"  seed {outcome.seed}: {outcome.verdict}, loss {outcome.loss:.4g}; after {num_steps} steps {last}",
                flush=True,
            )
        results.append(
            {
                "name": case.name,
                "title": case.title,
                "setting": case.setting,
                "num_steps": num_steps,
                "kept_every": KEPT_EVERY,
                "outcomes": [asdict(outcome) for outcome in outcomes],
            }
        )
    target = given.output or (None if given.cases else RESULTS)
    if target is not None:
        versions = {"python": python_version(), "torch": torch.__version__, "saddlescope": saddlescope.__version__}
        versions["scikit-learn"] = version("scikit-learn")
        stored = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine(), "versions": versions, "cases": results}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
