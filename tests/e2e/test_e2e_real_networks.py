"""Real networks through HTTP: digits along training, and exported models through the matrix-free path."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
import torch
from e2e_service import running_service
from safetensors.torch import save
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from saddlescope import AnalysisReport, Client, export_loss

HIDDEN = 8
DECAY = 1e-3
LOSS = {
    "kind": "network",
    "layers": [
        {"type": "linear", "in_features": 64, "out_features": HIDDEN},
        {"type": "tanh"},
        {"type": "linear", "in_features": HIDDEN, "out_features": 10},
    ],
    "criterion": {"type": "cross_entropy"},
    "weight_decay": DECAY,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        running_service(tmp_path_factory.mktemp("networks")) as service,
        Client(str(service.client.base_url)) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def digits() -> dict[str, Tensor]:
    images, classes = load_digits(return_X_y=True)
    return {"inputs": torch.tensor(images / 16), "targets": torch.tensor(classes)}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)).double()


def full_loss(net: nn.Module, digits: dict[str, Tensor]) -> Tensor:
    decay = 0.5 * DECAY * sum(parameter.square().sum() for parameter in net.parameters())
    return functional.cross_entropy(net(digits["inputs"]), digits["targets"]) + decay


def descend(net: nn.Module, digits: dict[str, Tensor], steps: int) -> float:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        full_loss(net, digits).backward()
        optimizer.step()
    return float(full_loss(net, digits).detach())


def converge(net: nn.Module, digits: dict[str, Tensor]) -> None:
    optimizer = torch.optim.LBFGS(
        net.parameters(),
        max_iter=3000,
        max_eval=6000,
        tolerance_grad=1e-9,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = full_loss(net, digits)
        loss.backward()
        return loss

    optimizer.step(closure)


def saved(net: nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": net.state_dict(), "optimizer": {"lr": 0.5}, "step": 3}, file)
    return file.getvalue()


def analysed(
    client: Client, checkpoint: bytes | dict[str, Tensor], loss: bytes | dict[str, object], data: dict[str, Tensor]
) -> AnalysisReport:
    job = client.submit(checkpoint, loss, data, landscape=False, max_matvecs=50_000 if isinstance(loss, dict) else 60)
    return job.wait(timeout=280)


def test_the_zero_start_is_a_saddle_and_the_escape_lets_training_go_on(
    client: Client, digits: dict[str, Tensor]
) -> None:
    net, stuck = network(), network()
    for parameter in (*net.parameters(), *stuck.parameters()):
        nn.init.zeros_(parameter)
    descend(net, digits, steps=200)  # the output biases learn the class frequencies; every weight stays zero
    descend(stuck, digits, steps=200)
    assert not net[0].weight.any()
    report = analysed(client, saved(net), LOSS, digits)
    assert report.verdict == "saddle", report.summary
    assert report.inertia.exact
    escape = report.escapes[0]
    assert escape.verified
    promised = escape.apply_(net)
    assert float(full_loss(net, digits).detach()) == pytest.approx(promised, rel=1e-9)
    assert promised < report.loss
    assert descend(net, digits, steps=200) < 0.8
    assert descend(stuck, digits, steps=200) > 2.3


def test_in_the_middle_of_training_the_point_is_not_critical(client: Client, digits: dict[str, Tensor]) -> None:
    net = network()
    descend(net, digits, steps=40)
    report = analysed(client, save(net.state_dict()), LOSS, digits)
    assert report.verdict == "not_critical", report.summary
    assert report.advice.action == "continue"
    assert report.loss == pytest.approx(float(full_loss(net, digits).detach()), rel=1e-12)


def test_at_convergence_the_point_is_a_local_minimum(client: Client, digits: dict[str, Tensor]) -> None:
    net = network()
    converge(net, digits)
    report = analysed(client, saved(net), LOSS, digits)
    assert report.verdict == "local_minimum", report.summary
    assert report.minimum_ratio.estimate == 1.0
    assert report.advice.action == "stop"


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.GELU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.GELU(),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(48 * 16, 56), nn.Tanh(), nn.Linear(56, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, vocabulary: int = 128, width: int = 144, length: int = 16, depth: int = 4) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.norm(self.blocks(self.tokens(tokens) + self.positions(places)))
        return hidden @ self.tokens.weight.T  # tied


def check_against_eager(report: AnalysisReport, net: nn.Module, loss: Tensor) -> None:
    """`loss` is the eager model's; its second derivative is taken here by plain autograd."""
    assert not report.inertia.exact
    assert report.numerics.method == "lanczos"
    assert report.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    parameters = tuple(net.parameters())
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    norm = torch.cat([piece.detach().flatten() for piece in gradient]).norm().item()
    assert report.criticality.gradient_norm == pytest.approx(norm, rel=1e-4)
    vector = report.escapes[0].vector
    named = dict(net.named_parameters())
    direction = tuple(vector[name] for name in named)
    product = torch.autograd.grad(gradient, parameters, direction)
    curvature = sum((u * hu).sum() for u, hu in zip(direction, product, strict=True)).item()
    assert report.escapes[0].curvature == pytest.approx(curvature, rel=1e-2)
    assert report.lambda_min.low <= curvature <= report.lambda_max.high


def test_an_exported_convolution_net_with_batch_norm(client: Client, digits: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    net = ConvNet()
    images, targets = digits["inputs"].float().view(-1, 1, 8, 8)[:64], digits["targets"][:64]
    net(images)  # running statistics
    net.eval()
    data = {"x": images, "y": targets}

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return functional.cross_entropy(model(batch["x"]), batch["y"])

    program = export_loss(net, loss, {name: rows[:4] for name, rows in data.items()})
    report = analysed(client, net.state_dict(), program, data)
    assert 45_000 < report.num_parameters < 55_000
    check_against_eager(report, net, loss(net, data))


def test_an_exported_transformer_of_a_million_parameters(client: Client) -> None:
    torch.manual_seed(0)
    net = Transformer().eval()
    data = {"tokens": torch.randint(0, 128, (8, 17))}

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = model(batch["tokens"][:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), batch["tokens"][:, 1:].flatten())

    program = export_loss(net, loss, {"tokens": data["tokens"][:4]})
    report = analysed(client, net.state_dict(), program, data)
    assert 950_000 < report.num_parameters < 1_100_000
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        check_against_eager(report, net, loss(net, data))
