"""The edge of stability: along full-batch gradient descent λ_max rises to 2/learning rate and stays there (Cohen et al. 2021)."""

from __future__ import annotations

import torch
from torch.nn import functional

from benchmarks.study.asking import Question, ask, significant
from benchmarks.study.networks import Data, Shape, Stack
from benchmarks.study.scale import Scale
from examples.digits import NUM_CLASSES, NUM_PIXELS, digits
from saddlescope import Client

NUM_HIDDEN = 32
NUM_CHECKPOINTS = 20
NUM_MATVECS = 40


def run(client: Client, scale: Scale) -> dict[str, object]:
    stack = Stack(Shape((NUM_PIXELS, NUM_HIDDEN, NUM_CLASSES), "tanh"), one_hot())
    return {
        "widths": list(stack.shape.widths),
        "num_steps": scale.num_edge_steps,
        "descents": [_descent(client, stack, rate, scale.num_edge_steps) for rate in scale.learning_rates],
    }


def one_hot() -> Data:
    """The digits, and their classes as unit vectors."""
    data = digits()
    return Data(data["inputs"], functional.one_hot(data["targets"], NUM_CLASSES).to(data["inputs"].dtype))


def _descent(client: Client, stack: Stack, learning_rate: float, num_steps: int) -> dict[str, object]:
    theta = stack.shape.draw(1, seed=0, dtype=torch.float32)
    every = max(1, num_steps // NUM_CHECKPOINTS)
    steps, questions = [], []
    for step in range(num_steps + 1):
        if step % every == 0:
            steps.append(step)
            tensors = {name: tensor.clone() for name, tensor in stack.shape.tensors(theta[0]).items()}
            run_id, options = f"edge-{learning_rate:g}", {"method": "lanczos", "max_matvecs": NUM_MATVECS}
            specification = stack.shape.specification()
            questions.append(Question(tensors, specification, stack.data.tensors(), run_id, step, options))
        theta = theta - learning_rate * stack.gradient(theta)
    reports = ask(client, questions)
    return {
        "learning_rate": learning_rate,
        "edge": significant(2 / learning_rate),
        "steps": steps,
        "losses": [significant(report.loss) for report in reports],
        "lambda_max": [significant(report.lambda_max.estimate) for report in reports],
        "lambda_min": [significant(report.lambda_min.estimate) for report in reports],
        "verdicts": [report.verdict.value for report in reports],
    }
