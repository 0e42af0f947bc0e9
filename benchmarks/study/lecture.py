"""The lecture's figure: networks on sin(5πx)/(5πx), trained, then moved to where ‖g‖ is least, then asked for their curvatures.

Twice the same points: by the count without a tolerance in float32, as it is usually done, and by the service. A search of a
critical point goes on from some of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.study.asking import Question, ask, counted, significant
from benchmarks.study.networks import Data, Shape, Stack, sinc
from benchmarks.study.scale import Scale
from benchmarks.study.training import adam, adam_on_gradient_norm
from saddlescope import AnalysisReport, Client

NUM_POINTS = 128
WIDTHS = (1, 10, 10, 1)
LEARNING_RATE = 1e-3
NORM_LEARNING_RATE = 1e-4
SEEDS = {"tanh": 0, "relu": 1}


def run(client: Client, scale: Scale) -> dict[str, object]:
    groups = []
    for activation, seed in SEEDS.items():
        stack = Stack(Shape(WIDTHS, activation), sinc(NUM_POINTS, dtype=torch.float32))
        groups.append(_group(client, stack, scale, seed=seed))
    return {
        "widths": list(WIDTHS),
        "num_points": NUM_POINTS,
        "num_steps": scale.num_steps,
        "learning_rate": LEARNING_RATE,
        "norm_learning_rate": NORM_LEARNING_RATE,
        "groups": groups,
    }


def _group(client: Client, stack: Stack, scale: Scale, *, seed: int) -> dict[str, object]:
    start = stack.shape.draw(scale.num_networks, seed=seed, dtype=torch.float32)
    trained = adam(start, stack.gradient, num_steps=scale.num_steps, learning_rate=LEARNING_RATE)
    theta = adam_on_gradient_norm(trained, stack, num_steps=scale.num_steps, learning_rate=NORM_LEARNING_RATE)
    exact = Stack(stack.shape, Data(stack.data.inputs.double(), stack.data.targets.double()))
    before, after = _stationarity(exact, trained.double()), _stationarity(exact, theta.double())
    ratios = stack.strict_ratio(theta)
    reports = ask(client, _questions(stack, theta, run=f"sinc-{stack.shape.activation}"))
    searched = ask(
        client,
        _questions(
            stack,
            theta[: scale.num_searched],
            run=f"sinc-{stack.shape.activation}-search",
            options={"critical_point_search": True},
        ),
    )
    return {
        "activation": stack.shape.activation,
        "networks": [
            {
                "strict_ratio": significant(ratios[row].item()),
                "trained": before[row],
                "flattest": after[row],
                "report": counted(report),
            }
            for row, report in enumerate(reports)
        ],
        "searches": [_search(report) for report in searched],
    }


def _questions(stack: Stack, theta: Tensor, *, run: str, options: dict[str, object] | None = None) -> list[Question]:
    return [
        Question(
            {name: tensor.clone() for name, tensor in stack.shape.tensors(row).items()},
            stack.shape.specification(),
            stack.data.tensors(),
            run=run,
            step=step,
            options={"method": "dense", **(options or {})},
        )
        for step, row in enumerate(theta)
    ]


def _stationarity(stack: Stack, theta: Tensor) -> list[dict[str, float]]:
    """L, ‖g‖, and ‖Hg‖/(‖H‖‖g‖) with Frobenius' ‖H‖: where the last is 0 and g is not, ‖g‖ is stationary without being zero."""
    gradient, hessian = stack.gradient(theta), stack.hessian(theta)
    norms = gradient.norm(dim=1)
    images = torch.einsum("cij,cj->ci", hessian, gradient).norm(dim=1)
    scales = hessian.norm(dim=(1, 2))
    losses = stack.loss(theta)
    return [
        {
            "loss": significant(loss),
            "gradient_norm": significant(norm),
            "image": significant(image / (scale * norm)) if scale * norm > 0 else 0.0,
        }
        for loss, norm, image, scale in zip(
            losses.tolist(), norms.tolist(), images.tolist(), scales.tolist(), strict=True
        )
    ]


def _search(report: AnalysisReport) -> dict[str, object]:
    """What is at the critical point that was found; else how the search ended."""
    endings: Sequence[str] = [w.detail for w in report.warnings if w.code.value == "critical_point_not_found"]
    return {
        "is_found": not endings,
        "ending": endings[0] if endings else report.evidence.statement,
        "verdict": report.verdict.value,
        "negative": report.inertia.negative,
        "zero": report.inertia.zero,
        "positive": report.inertia.positive,
        "num_matvecs": report.numerics.num_matvecs,
    }
