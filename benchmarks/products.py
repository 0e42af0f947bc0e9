"""What a Hessian-vector product costs in gradients, what Lanczos adds to its products, and the vectors that both hold.

The gradient is the plain eager one, of the same loss with respect to the parameter tensors. Ratios are medians of five rounds in
which gradient and product alternate, on two threads, one batch, float32. The peak is that of malloc'd tensors as torch's
profiler counts allocations and releases, less what is there before (the
record or graph that products keep among it), the basis and the peak of one gradient.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from benchmarks.peers.environment import origin, write_results
from benchmarks.promises import Promise
from saddlescope.curvature.lanczos import sphere_vector, tridiagonalize
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator

NUM_THREADS = 2
NUM_ROUNDS, NUM_QUICK_ROUNDS = 5, 1
NUM_STEPS = 60
LANCZOS_OVERHEAD = 0.10
PEAK_VECTORS = 6.0


@dataclass(frozen=True)
class Network:
    name: str
    make: Callable[[], tuple[nn.Module, Tensor, Tensor]]
    most_gradients: float


@dataclass(frozen=True)
class Cost:
    """Of one gradient and one product; medians."""

    network: str
    num_parameters: int
    mode: str
    gradient_seconds: float
    product_seconds: float
    most_gradients: float

    @property
    def gradients(self) -> float:
        return self.product_seconds / self.gradient_seconds

    @property
    def promise(self) -> Promise:
        return Promise(f"product in gradients: {self.network}", self.gradients, self.most_gradients)


@dataclass(frozen=True)
class Recurrence:
    """What Lanczos took for its steps, and held."""

    num_parameters: int
    num_steps: int
    seconds: float
    product_seconds: float
    vectors_above: float
    """The peak less what was there before, the basis and one gradient, in vectors."""

    @property
    def overhead(self) -> float:
        return self.seconds / self.product_seconds - 1

    @property
    def promises(self) -> list[Promise]:
        what = f"Lanczos beyond {self.num_steps} products, n = {self.num_parameters:,}"
        return [
            Promise(what, self.overhead, LANCZOS_OVERHEAD),
            Promise("vectors above basis and one gradient", self.vectors_above, PEAK_VECTORS),
        ]


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.before, self.middle = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixing, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.mixing(self.before(x)).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        scores = query @ key.transpose(-1, -2) * (width // self.num_heads) ** -0.5
        hidden = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.feed(self.middle(x))


class Transformer(nn.Module):
    """A decoder whose output is tied to the embedding: 0.87M parameters unless told otherwise."""

    def __init__(
        self, words: int = 512, width: int = 128, length: int = 64, *, num_blocks: int = 4, num_heads: int = 4
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_blocks)))
        self.after = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.after(self.blocks(self.embedding(tokens) + self.position))
        return (hidden @ self.embedding.weight.T).flatten(0, 1)


def perceptron() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(nn.Linear(784, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 10))
    return model, torch.randn(512, 784), torch.randint(0, 10, (512,))


def convolutional() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 12), nn.Tanh(), nn.Linear(12, 10)),
    )
    return model, torch.randn(128, 1, 28, 28), torch.randint(0, 10, (128,))


def transformer() -> tuple[nn.Module, Tensor, Tensor]:
    return Transformer(), torch.randint(0, 512, (8, 64)), torch.randint(0, 512, (512,))


def large() -> tuple[nn.Module, Tensor, Tensor]:
    """A million parameters and 4,096 rows."""
    model = nn.Sequential(nn.Linear(784, 768), nn.Tanh(), nn.Linear(768, 512), nn.Tanh(), nn.Linear(512, 10))
    return model, torch.randn(4096, 784), torch.randint(0, 10, (4096,))


NETWORKS = (
    Network("perceptron, 235k", perceptron, 1.25),
    Network("convolution net, 24k", convolutional, 1.3),
    Network("transformer, 0.87M", transformer, 2.2),
)


def run(*, quick: bool = False) -> list[Promise]:
    """Measure, print and store."""
    here, threads = origin("torch", num_threads=NUM_THREADS), torch.get_num_threads()
    torch.set_num_threads(NUM_THREADS)
    try:
        costs = [cost(network, num_rounds=NUM_QUICK_ROUNDS if quick else NUM_ROUNDS) for network in NETWORKS]
        recurrence = _lanczos()
    finally:
        torch.set_num_threads(threads)
    if not quick:
        told = {
            "products": [asdict(one) | {"gradients": one.gradients} for one in costs],
            "lanczos": asdict(recurrence) | {"overhead": recurrence.overhead},
            "most_overhead": LANCZOS_OVERHEAD,
            "most_vectors_above": PEAK_VECTORS,
        }
        write_results("products", {**here, **told})
    return [*(one.promise for one in costs), *recurrence.promises]


def cost(network: Network, device: str = "cpu", *, num_rounds: int = NUM_ROUNDS) -> Cost:
    """Of a gradient and a product; prints the mode that was chosen."""
    objective, gradient = _objective(network.make, device)
    operator = HessianOperator(objective, objective.theta)
    vector = torch.randn(operator.size, device=device)
    operator.matvec(vector)
    gradient()
    rounds = [
        (_seconds(gradient, device), _seconds(lambda: operator.matvec(vector), device)) for _ in range(num_rounds)
    ]
    first, product = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(
        f"{network.name}: {operator.mode}, gradient {1e3 * first:.1f} ms, product {product / first:.2f} of it",
        flush=True,
    )
    return Cost(network.name, operator.size, str(operator.mode), first, product, network.most_gradients)


def _objective(
    make: Callable[[], tuple[nn.Module, Tensor, Tensor]], device: str = "cpu"
) -> tuple[Objective, Callable[[], object]]:
    torch.manual_seed(0)
    model, x, y = make()
    model, x, y = model.to(device), x.to(device), y.to(device)

    def loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        output = torch.func.functional_call(model, dict(tensors), (batch["x"],))
        return nn.functional.cross_entropy(output, batch["y"].reshape(-1))

    parameters = list(model.parameters())

    def gradient() -> object:
        return torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)

    data = {"x": x, "y": y.reshape(x.shape[0], -1)}
    problem = Problem(loss, dict(model.named_parameters()), data=data)
    return Objective(problem, dtype=torch.float32, device=device), gradient


def _lanczos() -> Recurrence:
    objective, gradient = _objective(large)
    operator = HessianOperator(objective, objective.theta)
    start = sphere_vector(
        operator.size, generator=torch.Generator().manual_seed(0), dtype=torch.float32, device=torch.device("cpu")
    )
    operator.matvec(start)
    inside = 0.0

    def matvec(vector: Tensor) -> Tensor:
        nonlocal inside
        began = time.perf_counter()
        product = operator.matvec(vector)
        inside += time.perf_counter() - began
        return product

    total = _seconds(lambda: tridiagonalize(matvec, start, num_matvecs=NUM_STEPS))
    print(
        f"{NUM_STEPS} Lanczos steps, n = {operator.size}: {total:.2f} s, of which products {inside:.2f} s", flush=True
    )
    vector_bytes = 4 * operator.size
    single = _peak_bytes(gradient)
    peak = _peak_bytes(lambda: tridiagonalize(operator.matvec, start, num_matvecs=NUM_STEPS))
    vectors = (peak - NUM_STEPS * vector_bytes - single) / vector_bytes
    return Recurrence(operator.size, NUM_STEPS, total, inside, vectors)


def _peak_bytes(action: Callable[[], object]) -> int:
    """The highest sum of tensor memory taken and not given back during `action`, as torch's profiler sees it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        action()
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    if not changes:
        raise RuntimeError("the profiler saw no allocation: the peak cannot be measured this way")
    return max(itertools.accumulate(size for _, size in changes))


def _seconds(action: Callable[[], object], device: str = "cpu") -> float:
    began = time.perf_counter()
    action()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
