"""A network loss is the loss of torch.nn in eval mode: value, gradient and curvature, however it is batched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from saddlescope.contract.losses import NetworkLoss
from saddlescope.contract.vocabulary import Caution, FailureCode
from saddlescope.curvature.objective import Objective
from workers.faults import JobFault
from workers.losses import BuiltProblem
from workers.losses.network import network_problem

# torch's own forward-mode decompositions are still written in TorchScript.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

Spec = dict[str, Any]


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


MODULES: dict[str, type[nn.Module]] = {
    "linear": nn.Linear,
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "batch_norm1d": nn.BatchNorm1d,
    "batch_norm2d": nn.BatchNorm2d,
    "layer_norm": nn.LayerNorm,
    "group_norm": nn.GroupNorm,
    "embedding": nn.Embedding,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
    "dropout": nn.Dropout,
    "flatten": nn.Flatten,
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}
CRITERIA: dict[str, type[nn.Module]] = {
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "huber": nn.HuberLoss,
    "cross_entropy": nn.CrossEntropyLoss,
    "bce_with_logits": nn.BCEWithLogitsLoss,
    "nll": nn.NLLLoss,
}


def module(layers: list[Spec]) -> nn.Sequential:
    made: list[nn.Module] = []
    for layer in layers:
        arguments = {name: value for name, value in layer.items() if name != "type"}
        if layer["type"] == "residual":
            made.append(Residual(*module(arguments["layers"])))
        else:
            made.append(MODULES[layer["type"]](**arguments))
    return nn.Sequential(*made)


def trained(layers: list[Spec]) -> nn.Sequential:
    """The torch.nn twin with generic weights and running statistics, in eval mode and float64."""
    torch.manual_seed(1)
    network = module(layers).double().eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "running_var" in name else torch.randn_like(tensor) * 0.5)
    return network


def criterion_of(spec: Spec) -> nn.Module:
    arguments = {
        name: torch.tensor(value, dtype=torch.float64) if name in ("weight", "pos_weight") else value
        for name, value in spec.items()
        if name != "type"
    }
    return CRITERIA[spec["type"]](**arguments)


def build(layers: list[Spec], criterion: Spec, checkpoint: dict[str, Tensor], data: dict[str, Tensor]) -> BuiltProblem:
    loss = NetworkLoss.model_validate(
        {"kind": "network", "layers": layers, "criterion": criterion, "weight_decay": 0.0}
    )
    return network_problem(loss, checkpoint, data)


def assert_equal_to_torch(layers: list[Spec], criterion: Spec, inputs: Tensor, targets: Tensor | None = None) -> None:
    network = trained(layers)
    given = inputs if not inputs.is_floating_point() else inputs.double()
    if targets is None:
        targets = torch.randn_like(network(given)).detach()
    loss = criterion_of(criterion)
    truth = loss(network(given), targets)
    params = dict(network.named_parameters())
    expected = torch.cat([each.reshape(-1) for each in torch.autograd.grad(truth, list(params.values()))])

    built = build(layers, criterion, network.state_dict(), {"inputs": inputs, "targets": targets})
    assert list(built.problem.params) == list(params)
    assert not built.warnings
    for batch_size in (None, 2):
        objective = Objective(built.problem, dtype=torch.float64, batch_size=batch_size)
        value, gradient = objective.gradient(objective.theta)
        assert value == pytest.approx(truth.item(), rel=1e-12, abs=1e-14)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)

    bound = built.problem.lower_bound
    assert bound is None or bound <= truth.item() + 1e-12
    theta, names = objective.theta, list(params)
    direction = torch.randn_like(theta)
    unpack = objective.tensors
    constants = {
        name: held.double() if held.is_floating_point() else held for name, held in built.problem.constants.items()
    }
    data = {name: held.double() if held.is_floating_point() else held for name, held in built.problem.data.items()}

    def ours(flat: Tensor) -> Tensor:
        return built.problem.scale * built.problem.loss({**constants, **unpack(flat)}, data)

    def theirs(flat: Tensor) -> Tensor:
        pieces = unpack(flat)
        return loss(functional_call(network, {name: pieces[name] for name in names}, (given,)), targets)

    product = jvp(grad(ours), (theta,), (direction,))[1]
    leaf = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(theirs(leaf), leaf, create_graph=True)
    if slope.requires_grad:
        (expected_product,) = torch.autograd.grad(slope @ direction, leaf, materialize_grads=True)
        torch.testing.assert_close(product, expected_product, rtol=1e-8, atol=1e-10)


IMAGE = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
VECTOR = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
SEQUENCE = torch.randn(5, 4, 9, generator=torch.Generator().manual_seed(0))
LINEAR = {"type": "linear", "in_features": 6, "out_features": 6}
CONV = {"type": "conv2d", "in_channels": 4, "out_channels": 6, "kernel_size": 3}
HEAD = [{"type": "flatten"}]

LAYERS: dict[str, tuple[list[Spec], Tensor]] = {
    "linear": ([LINEAR], VECTOR),
    "linear without bias": ([{**LINEAR, "bias": False}], VECTOR),
    "linear over sequences": ([{"type": "linear", "in_features": 9, "out_features": 2}], SEQUENCE),
    "conv1d": (
        [{"type": "conv1d", "in_channels": 4, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": 1}],
        SEQUENCE,
    ),
    "conv1d same": (
        [{"type": "conv1d", "in_channels": 4, "out_channels": 2, "kernel_size": [5], "padding": "same"}],
        SEQUENCE,
    ),
    "conv2d": ([CONV], IMAGE),
    "conv2d grouped": (
        [{**CONV, "groups": 2, "kernel_size": [3, 2], "padding": [1, 0], "dilation": 2, "bias": False}],
        IMAGE,
    ),
    "batch_norm1d": ([{"type": "batch_norm1d", "num_features": 6}, LINEAR], VECTOR),
    "batch_norm1d over sequences": ([{"type": "batch_norm1d", "num_features": 4, "eps": 1e-3}], SEQUENCE),
    "batch_norm2d": ([CONV, {"type": "batch_norm2d", "num_features": 6}, {"type": "tanh"}], IMAGE),
    "batch_norm2d plain": ([CONV, {"type": "batch_norm2d", "num_features": 6, "affine": False}], IMAGE),
    "layer_norm": ([LINEAR, {"type": "layer_norm", "normalized_shape": 6}], VECTOR),
    "layer_norm 2d": ([{"type": "layer_norm", "normalized_shape": [4, 9], "bias": False}, {"type": "tanh"}], SEQUENCE),
    "group_norm": ([CONV, {"type": "group_norm", "num_groups": 3, "num_channels": 6}], IMAGE),
    "embedding": (
        [{"type": "embedding", "num_embeddings": 7, "embedding_dim": 3}, {"type": "tanh"}],
        torch.arange(10).reshape(5, 2) % 7,
    ),
    "embedding padded": (
        [{"type": "embedding", "num_embeddings": 7, "embedding_dim": 3, "padding_idx": -6}, {"type": "tanh"}],
        torch.arange(10).reshape(5, 2) % 7,
    ),
    "relu": ([LINEAR, {"type": "relu", "inplace": True}, LINEAR], VECTOR),
    "leaky_relu": ([LINEAR, {"type": "leaky_relu", "negative_slope": 0.2}, LINEAR], VECTOR),
    "elu": ([LINEAR, {"type": "elu", "alpha": 0.7}, LINEAR], VECTOR),
    "gelu": ([LINEAR, {"type": "gelu"}, LINEAR], VECTOR),
    "gelu tanh": ([LINEAR, {"type": "gelu", "approximate": "tanh"}, LINEAR], VECTOR),
    "silu": ([LINEAR, {"type": "silu"}, LINEAR], VECTOR),
    "tanh": ([LINEAR, {"type": "tanh"}, LINEAR], VECTOR),
    "sigmoid": ([LINEAR, {"type": "sigmoid"}, LINEAR], VECTOR),
    "softplus": ([LINEAR, {"type": "softplus", "beta": 2.0, "threshold": 5.0}, LINEAR], VECTOR),
    "identity and dropout": ([{"type": "identity"}, LINEAR, {"type": "dropout", "p": 0.9}, LINEAR], VECTOR),
    "flatten": ([CONV, {"type": "flatten", "start_dim": 2}], IMAGE),
    "max_pool2d": ([CONV, {"type": "max_pool2d", "kernel_size": 2, "padding": 1, "ceil_mode": True}], IMAGE),
    "avg_pool2d": (
        [CONV, {"type": "avg_pool2d", "kernel_size": [2, 3], "stride": 1, "padding": 1, "count_include_pad": False}],
        IMAGE,
    ),
    "adaptive_avg_pool2d": ([CONV, {"type": "tanh"}, {"type": "adaptive_avg_pool2d", "output_size": [None, 2]}], IMAGE),
    "residual": (
        [
            LINEAR,
            {"type": "residual", "layers": [LINEAR, {"type": "tanh"}, {"type": "residual", "layers": [LINEAR]}]},
            LINEAR,
        ],
        VECTOR,
    ),
}


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer_is_that_of_torch_nn(case: str) -> None:
    layers, inputs = LAYERS[case]
    assert_equal_to_torch(layers, {"type": "mse"}, inputs)


def test_every_layer_type_of_the_contract_stands_in_the_table() -> None:
    assert {layer["type"] for layers, _ in LAYERS.values() for layer in layers} == set(MODULES) | {"residual"}


CLASSES = torch.tensor([0, 5, 2, 2, 1])
IGNORING = torch.tensor([0, -100, 2, -100, 1])
WEIGHTS = [0.5, 1.0, 2.0, 0.1, 0.0, 3.0]
PROBABILITIES = torch.softmax(torch.randn(5, 6, generator=torch.Generator().manual_seed(3)).double(), 1)
HARD = torch.tensor([[0, 1, 0, 1, 1, 0]] * 5)

TARGETS: dict[str, tuple[Spec, Tensor | None]] = {
    "mse": ({"type": "mse"}, None),
    "l1": ({"type": "l1"}, None),
    "huber": ({"type": "huber", "delta": 0.3}, None),
    "cross_entropy": ({"type": "cross_entropy"}, CLASSES),
    "cross_entropy ignoring": ({"type": "cross_entropy"}, IGNORING),
    "cross_entropy ignoring a class": ({"type": "cross_entropy", "ignore_index": 2, "weight": WEIGHTS}, CLASSES),
    "cross_entropy smoothed": ({"type": "cross_entropy", "label_smoothing": 0.2}, IGNORING),
    "cross_entropy weighted": ({"type": "cross_entropy", "weight": WEIGHTS, "label_smoothing": 0.1}, CLASSES),
    "cross_entropy of probabilities": (
        {"type": "cross_entropy", "weight": WEIGHTS, "label_smoothing": 0.1},
        PROBABILITIES,
    ),
    "bce_with_logits": ({"type": "bce_with_logits"}, HARD.double()),
    "bce_with_logits soft": ({"type": "bce_with_logits", "weight": WEIGHTS, "pos_weight": [2.0]}, PROBABILITIES),
    "nll": ({"type": "nll", "weight": WEIGHTS}, IGNORING),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("case", TARGETS)
def test_a_criterion_is_that_of_torch_nn_over_the_whole_data_set(case: str, reduction: str) -> None:
    criterion, targets = TARGETS[case]
    assert_equal_to_torch([LINEAR, {"type": "tanh"}, LINEAR], {**criterion, "reduction": reduction}, VECTOR, targets)


def test_cross_entropy_takes_classes_by_position() -> None:
    targets = torch.randint(0, 6, (5, 6, 6), generator=torch.Generator().manual_seed(0))
    targets[0, 0] = -100
    assert_equal_to_torch([CONV], {"type": "cross_entropy"}, IMAGE, targets)


@pytest.mark.parametrize("case", ["cross_entropy smoothed", "cross_entropy of probabilities", "bce_with_logits soft"])
def test_the_lower_bound_is_reached_by_a_free_output(case: str) -> None:
    criterion, targets = TARGETS[case]
    assert targets is not None
    layers = [{"type": "embedding", "num_embeddings": 5, "embedding_dim": 6}]
    weight = torch.zeros(5, 6, dtype=torch.float64)
    built = build(layers, criterion, {"0.weight": weight}, {"inputs": torch.arange(5), "targets": targets})
    objective = Objective(built.problem, dtype=torch.float64)
    leaf = objective.theta.clone().requires_grad_()
    (_, batch), *_ = objective.batches()
    optimizer = torch.optim.LBFGS([leaf], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = built.problem.scale * objective.batch_loss(leaf, batch)
        value.backward()
        return value

    optimizer.step(closure)
    assert built.problem.lower_bound is not None
    assert built.problem.lower_bound > 0
    assert objective.loss(leaf.detach()) == pytest.approx(built.problem.lower_bound, rel=1e-5)
    assert objective.loss(leaf.detach()) >= built.problem.lower_bound


def test_float32_stays_float32() -> None:
    state = {name: tensor.float() for name, tensor in trained([LINEAR]).state_dict().items()}
    criterion = {"type": "cross_entropy", "weight": WEIGHTS, "label_smoothing": 0.1}
    built = build([LINEAR], criterion, state, {"inputs": VECTOR, "targets": CLASSES})
    objective = Objective(built.problem, dtype=torch.float32)
    (_, batch), *_ = objective.batches()
    assert objective.batch_loss(objective.theta, batch).dtype is torch.float32


def test_a_layer_norm_network_has_fourth_derivatives() -> None:
    layers = [LINEAR, {"type": "layer_norm", "normalized_shape": 6}, {"type": "gelu"}, LINEAR]
    built = build(
        layers, {"type": "cross_entropy"}, trained(layers).state_dict(), {"inputs": VECTOR, "targets": CLASSES}
    )
    objective = Objective(built.problem, dtype=torch.float64)
    (_, batch), *_ = objective.batches()
    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    direction = torch.nn.functional.normalize(torch.randn_like(objective.theta), dim=0)
    value = objective.batch_loss(objective.theta + step * direction, batch)
    derivatives = []
    for _ in range(4):
        (value,) = torch.autograd.grad(value, step, create_graph=True)
        derivatives.append(value.item())
    h = 1e-2
    points = [objective.batch_loss(objective.theta + k * h * direction, batch).item() for k in (-2, -1, 0, 1, 2)]
    fourth = (points[0] - 4 * points[1] + 6 * points[2] - 4 * points[3] + points[4]) / h**4
    assert derivatives[3] == pytest.approx(fourth, rel=0.05)


STATE = {"0.weight": torch.ones(6, 6), "0.bias": torch.ones(6)}
ROWS = {"inputs": VECTOR, "targets": CLASSES}
CE = {"type": "cross_entropy"}

FAULTS: dict[str, tuple[list[Spec], Spec, dict[str, Tensor], dict[str, Tensor], FailureCode, str]] = {
    "missing": (
        [LINEAR, LINEAR],
        CE,
        STATE,
        ROWS,
        FailureCode.PARAMETER_MISMATCH,
        "'1.weight' should have shape (6, 6) and is missing",
    ),
    "shape": (
        [{**LINEAR, "out_features": 5}],
        CE,
        STATE,
        ROWS,
        FailureCode.PARAMETER_MISMATCH,
        "should have shape (5, 6) and has shape (6, 6)",
    ),
    "prefix": (
        [LINEAR],
        CE,
        {f"module.{n}": t for n, t in STATE.items()},
        ROWS,
        FailureCode.PARAMETER_MISMATCH,
        "'module.0.weight'",
    ),
    "integers": (
        [LINEAR],
        CE,
        {**STATE, "0.bias": torch.ones(6).long()},
        ROWS,
        FailureCode.PARAMETER_MISMATCH,
        "not floating",
    ),
    "many": ([LINEAR] * 40, CE, STATE, ROWS, FailureCode.PARAMETER_MISMATCH, "and 73 more"),
    "chain": (
        [LINEAR, {"type": "linear", "in_features": 7, "out_features": 1}],
        CE,
        {**STATE, "1.weight": torch.ones(1, 7), "1.bias": torch.ones(1)},
        ROWS,
        FailureCode.LOSS_INVALID,
        "layer 1 (linear) does not take an input of shape (N, 6)",
    ),
    "inside residual": (
        [LINEAR, {"type": "residual", "layers": [{"type": "flatten", "start_dim": 5}]}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "layer 1 / 0 (flatten)",
    ),
    "residual shape": (
        [
            LINEAR,
            {"type": "residual", "layers": [{"type": "linear", "in_features": 6, "out_features": 1, "bias": False}]},
        ],
        CE,
        {**STATE, "1.0.weight": torch.ones(1, 6)},
        ROWS,
        FailureCode.LOSS_INVALID,
        "adds an output of shape (N, 1)",
    ),
    "batch statistics": (
        [LINEAR, {"type": "batch_norm1d", "num_features": 6, "track_running_stats": False, "affine": False}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "running statistics",
    ),
    "mixing": (
        [LINEAR, {"type": "flatten", "start_dim": 0}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "mixes examples",
    ),
    "norm over the batch": (
        [LINEAR, {"type": "layer_norm", "normalized_shape": [3, 6], "elementwise_affine": False}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "3 or more",
    ),
    "unbatched image": (
        [LINEAR, {"type": "avg_pool2d", "kernel_size": 1}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "4 dimensions",
    ),
    "layer norm of another width": (
        [LINEAR, {"type": "layer_norm", "normalized_shape": 1, "elementwise_affine": False}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "wants last dimensions (1,)",
    ),
    "batch norm that broadcasts": (
        [LINEAR, {"type": "batch_norm1d", "num_features": 1, "affine": False}],
        CE,
        {**STATE, "1.running_mean": torch.ones(1), "1.running_var": torch.ones(1)},
        ROWS,
        FailureCode.LOSS_INVALID,
        "wants channel dimensions (1,)",
    ),
    "giant padding": (
        [{**CONV, "padding": 2**20}],
        CE,
        {"0.weight": torch.ones(6, 4, 3, 3), "0.bias": torch.ones(6)},
        {"inputs": IMAGE, "targets": CLASSES},
        FailureCode.LOSS_INVALID,
        "more than can be held",
    ),
    "negative variance": (
        [{"type": "batch_norm1d", "num_features": 6}],
        CE,
        {**{f"0.{n}": torch.ones(6) for n in ("weight", "bias", "running_mean")}, "0.running_var": -torch.ones(6)},
        ROWS,
        FailureCode.CHECKPOINT_INVALID,
        "negative",
    ),
    "groups": (
        [LINEAR, {"type": "group_norm", "num_groups": 4, "num_channels": 6}],
        CE,
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "divisible",
    ),
    "class weights": (
        [LINEAR, {"type": "flatten"}, {"type": "softplus"}],
        {"type": "nll", "weight": [1.0]},
        STATE,
        ROWS,
        FailureCode.LOSS_INVALID,
        "1 class weights for 6 classes",
    ),
    "no parameters": ([{"type": "tanh"}], CE, STATE, ROWS, FailureCode.LOSS_INVALID, "parameter"),
    "no targets": ([LINEAR], CE, STATE, {"inputs": VECTOR}, FailureCode.DATA_INVALID, "'targets' is missing"),
    "no data": ([LINEAR], CE, STATE, {}, FailureCode.DATA_INVALID, "'inputs' is missing"),
    "class 6": (
        [LINEAR],
        CE,
        STATE,
        {**ROWS, "targets": CLASSES + 1},
        FailureCode.DATA_INVALID,
        "row 1 of the targets holds class 6",
    ),
    "class -1": ([LINEAR], CE, STATE, {**ROWS, "targets": CLASSES - 1}, FailureCode.DATA_INVALID, "class -1"),
    "float classes": (
        [LINEAR],
        CE,
        STATE,
        {**ROWS, "targets": CLASSES.float()},
        FailureCode.DATA_INVALID,
        "integer class indices",
    ),
    "all ignored": (
        [LINEAR],
        CE,
        STATE,
        {**ROWS, "targets": torch.full((5,), -100)},
        FailureCode.DATA_INVALID,
        "every target is ignored",
    ),
    "broadcast": (
        [LINEAR],
        {"type": "mse"},
        STATE,
        {**ROWS, "targets": torch.ones(5, 1)},
        FailureCode.DATA_INVALID,
        "they have shape (N, 1)",
    ),
    "weights for examples": (
        [LINEAR],
        {"type": "bce_with_logits", "weight": [1.0] * 5},
        STATE,
        {**ROWS, "targets": HARD},
        FailureCode.LOSS_INVALID,
        "give 1 or 6",
    ),
    "vocabulary": (
        [{"type": "embedding", "num_embeddings": 6, "embedding_dim": 6}],
        CE,
        STATE,
        {"inputs": torch.tensor([[0], [6]]), "targets": torch.zeros(2, 1).long()},
        FailureCode.DATA_INVALID,
        "row 1 of the inputs holds index 6",
    ),
    "float indices": (
        [{"type": "embedding", "num_embeddings": 6, "embedding_dim": 6}],
        CE,
        STATE,
        ROWS,
        FailureCode.DATA_INVALID,
        "integer indices",
    ),
    "padding outside": (
        [{"type": "embedding", "num_embeddings": 6, "embedding_dim": 6, "padding_idx": 6}],
        CE,
        STATE,
        {"inputs": torch.zeros(2, 1).long(), "targets": torch.zeros(2, 6).long()},
        FailureCode.LOSS_INVALID,
        "padding_idx 6",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_does_not_fit_is_named(case: str) -> None:
    layers, criterion, state, data, code, message = FAULTS[case]
    with pytest.raises(JobFault) as caught:
        build(layers, criterion, state, data)
    assert caught.value.code is code
    assert message in caught.value.detail


def test_tensors_that_no_layer_reads_are_reported() -> None:
    state = {**STATE, "0.num_batches_tracked": torch.tensor(3), "7.weight": torch.ones(2)}
    built = build([LINEAR], CE, state, ROWS)
    assert [warning.code for warning in built.warnings] == [Caution.IGNORED_TENSORS]
    assert "'7.weight'" in built.warnings[0].detail
    assert "num_batches_tracked" not in built.warnings[0].detail


def test_ten_thousand_layers_are_built_and_run() -> None:
    built = build(
        [{"type": "tanh"}] * 9_999 + [LINEAR], CE, {f"9999.{n.partition('.')[2]}": t for n, t in STATE.items()}, ROWS
    )
    objective = Objective(built.problem, dtype=torch.float64)
    assert objective.loss(objective.theta) > 0
