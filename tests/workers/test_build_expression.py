"""Expressions against closed forms written by hand: values, gradients, Hessians, and derivatives beyond."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from saddlescope.contract import limits
from saddlescope.contract.expressions import names, parse
from saddlescope.contract.losses import ExpressionLoss
from saddlescope.contract.vocabulary import FailureCode, Reduction
from saddlescope.curvature.objective import Objective, Problem
from workers.faults import JobFault
from workers.losses.expression import expression_problem

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

Numbers = float | list[float] | list[list[float]]


def build(
    expression: str, data: dict[str, Tensor] | None = None, reduction: str = "mean", **checkpoint: Numbers | Tensor
) -> Problem:
    loss = ExpressionLoss(kind="expression", expression=expression, reduction=Reduction(reduction))
    tensors = {
        name: value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for name, value in checkpoint.items()
    }
    return expression_problem(loss, tensors, data or {}).problem


def flat_loss(problem: Problem) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    objective = Objective(problem, dtype=torch.float64)
    ((weight, batch),) = objective.batches()
    return (lambda theta: weight * objective.batch_loss(theta, batch)), objective.theta


def eigenvalues(expression: str, **checkpoint: Numbers | Tensor) -> list[float]:
    loss, theta = flat_loss(build(expression, **checkpoint))
    return torch.linalg.eigvalsh(hessian(loss)(theta)).tolist()


ROOT = math.sqrt(250601)
SPECTRA: list[tuple[str, dict[str, Numbers], list[float]]] = [
    ("(1 - w1*w2)**2", {"w1": 0.0, "w2": 0.0}, [-2, 2]),
    ("(1 - w1*w2)**2", {"w1": 1000.0, "w2": 0.001}, [0, 2 * (1e6 + 1e-6)]),
    ("(1 - w1*w2)**2", {"w1": 1.0, "w2": 0.0}, [1 - math.sqrt(5), 1 + math.sqrt(5)]),
    ("(1 - w[0]*w[1]*w[2])**2", {"w": [0.0, 0.0, 0.0]}, [0, 0, 0]),
    ("(1 - prod(w))**2", {"w": [1.0] * 7}, [0] * 6 + [14]),
    ("(1 - prod(w))**2 + 0.5/2*norm(w)**2", {"w": [0.0, 0.0]}, [-1.5, 2.5]),
    ("(1 - w**2)**2", {"w": 0.0}, [-4]),
    ("(1 - w**2)**2", {"w": 1.0}, [8]),
    ("0.5 * dot(h, d*h)".replace("h", "(x - 2*q*dot(q, x))"), {"x": [0.0, 0.0]}, [-0.1, 3]),
    ("x**3 - 3*x*y**2", {"x": 0.0, "y": 0.0}, [0, 0]),
    ("x**2 + y**4", {"x": 0.0, "y": 0.0}, [0, 2]),
    ("(y - x**2)*(y - 2*x**2)", {"x": 0.0, "y": 0.0}, [0, 2]),
    ("(x**2 + y**2 - 1)**2", {"x": 0.0, "y": 0.0}, [-4, -4]),
    ("(x**2 + y**2 - 1)**2", {"x": 0.6, "y": 0.8}, [0, 8]),
    ("sum(100*(w[1::2] - w[0::2]**2)**2 + (1 - w[::2])**2)", {"w": [1.0] * 4}, [501 - ROOT] * 2 + [501 + ROOT] * 2),
    ("x**3/3 + 0.001*x + 0.5*y**2", {"x": 0.0, "y": 0.0}, [0, 1]),
    ("0.5*sum((u@transpose(v) - m)**2)", {"u": [[0.0], [0.0]], "v": [[0.0], [0.0]]}, [-3, -1, 1, 3]),
    ("0.75*norm(z)**4 + 0.75*norm(p)**4 - 0.5*norm(p)**2*norm(z)**2 - dot(p, z)**2", {"z": [0.0, 0.0]}, [-3, -1]),
    ("-dot(x, a@x)/dot(x, x)", {"x": [0.0, 100.0]}, [-4e-4, 0]),
    ("(tanh(w) + 1)**2", {"w": 20.0}, [0]),
    ("1 + 1e-9*(x**2 - y**2)", {"x": 0.0, "y": 0.0}, [-2e-9, 2e-9]),
    ("0.5*trace((i - b@c)@s@transpose(i - b@c))", {"b": [[0.0], [0.0]], "c": [[0.0, 0.0]]}, [-2, -1, 1, 2]),
    ("(1 - v*relu(w))**2", {"v": 1.0, "w": 0.0}, [0, 0]),
]
FIXED = {
    "q": [0.6, 0.8],
    "d": [-0.1, 3.0],
    "m": [[3.0, 0.0], [0.0, 1.0]],
    "p": [1.0, 0.0],
    "a": [[3.0, 0.0], [0.0, 1.0]],
    "i": [[1.0, 0.0], [0.0, 1.0]],
    "s": [[2.0, 0.0], [0.0, 1.0]],
}


@pytest.mark.parametrize(("expression", "point", "expected"), SPECTRA, ids=[row[0] for row in SPECTRA])
def test_the_spectra_of_known_problems_come_out(
    expression: str, point: dict[str, Numbers], expected: list[float]
) -> None:
    used = names(parse(expression))
    constants = {name: torch.tensor(FIXED[name], dtype=torch.float64) for name in used if name not in point}
    # Data of one batch are constants: nothing but the checkpoint varies.
    problem = build(expression, constants, **point)
    loss, theta = flat_loss(problem)
    found = torch.linalg.eigvalsh(hessian(loss)(theta))
    scale = max(map(abs, expected)) or 1.0
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9 * scale)
    torch.testing.assert_close(jacrev(grad(loss))(theta), jacfwd(grad(loss))(theta))


@pytest.mark.parametrize(
    ("expression", "order", "expected"),
    [
        ("x**2", 2, 2.0),
        ("x**2", 3, 0.0),
        ("x**3", 3, 6.0),
        ("x**4", 4, 24.0),
        ("x**4", 3, 0.0),
        ("x*x*x*x", 4, 24.0),
        ("(x**2 - 1)**2", 4, 24.0),
        ("(1 - prod(x*one))**2", 3, -12.0),
        ("softplus(x)", 4, -0.125),
        ("tanh(x)", 3, -2.0),
        ("sigmoid(x)", 3, -0.125),
        ("log1p(x)", 4, -6.0),
        ("logsumexp(x*sign)", 4, -2.0),
        ("abs(x)**4", 4, 24.0),
        ("norm(x*one)**2", 2, 6.0),
        ("norm(x*one)**4", 4, 216.0),
        ("sqrt(1 + x)", 2, -0.25),
        ("2**x", 3, math.log(2) ** 3),
    ],
)
def test_derivatives_at_zero_are_exact(expression: str, order: int, expected: float) -> None:
    one, sign = torch.ones(3, dtype=torch.float64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    data = {name: tensor for name, tensor in (("one", one), ("sign", sign)) if name in expression}
    problem = build(expression, data, x=0.0)
    leaf = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = problem.loss({"x": leaf}, data)
    for _ in range(order):
        (value,) = torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)
    assert value.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_products_differentiate_right_where_entries_are_zero(size: int) -> None:
    point = torch.linspace(-1, 2, size, dtype=torch.float64)
    point[: size // 2] = 0
    loss, theta = flat_loss(build("prod(w)", w=point))

    def slow(w: Tensor) -> Tensor:
        result = torch.ones((), dtype=w.dtype)
        for entry in w:
            result = result * entry
        return result

    assert torch.equal(hessian(loss)(theta), hessian(slow)(theta))


def test_a_million_factors_have_their_curvature() -> None:
    loss, theta = flat_loss(build("(1 - prod(w))**2", w=torch.ones(10**6, dtype=torch.float64)))
    leaf = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    (product,) = torch.autograd.grad(gradient.sum(), leaf)
    assert torch.equal(product, torch.full_like(product, 2e6))


FORMS: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
    ("sin(x) + cos(y) - tan(x*y)", lambda x, y: x.sin() + y.cos() - (x * y).tan()),
    ("exp(-x)/(1 + y**2)", lambda x, y: (-x).exp() / (1 + y**2)),
    ("log(abs(x) + 1)*sqrt(y**2 + 1)", lambda x, y: (x.abs() + 1).log() * (y**2 + 1).sqrt()),
    ("-x**2 + +y", lambda x, y: -(x**2) + y),
    ("2**-y*x - x/y/2", lambda x, y: 2.0 ** (-y) * x - x / y / 2),
    ("(x + 3)**y", lambda x, y: (x + 3) ** y),
    ("max(x, y, 0.1) + min(x, 2*y)", lambda x, y: torch.stack((x, y, 0.1 + 0 * x)).amax(0) + torch.minimum(x, 2 * y)),
    ("x[0] - y[-1]*x[1:3]", lambda x, y: x[0] - y[-1] * x[1:3]),
    ("softplus(x)*sigmoid(y) + relu(x)", lambda x, y: torch.logaddexp(x, 0 * x) * y.sigmoid() + x.relu()),
    ("sum(x) + prod(y) + mean(x*y)", lambda x, y: x.sum() + y.prod() + (x * y).mean()),
    ("dot(x, y)*norm(x) + logsumexp(y)", lambda x, y: (x * y).sum() * x.norm() + y.logsumexp(0)),
    ("x@y + max(x) - min(y)", lambda x, y: x @ y + x.max() - y.min()),
]


@pytest.mark.parametrize(("expression", "truth"), FORMS, ids=[row[0] for row in FORMS])
def test_every_function_is_what_its_name_says(expression: str, truth: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, y = torch.tensor([0.3, -1.2, 0.9, 2.1]).double(), torch.tensor([0.7, 0.4, -0.5, 1.5]).double()
    loss, theta = flat_loss(build(f"sum({expression})", x=x, y=y))

    def expected(flat: Tensor) -> Tensor:
        return truth(flat[:4], flat[4:]).sum()

    torch.testing.assert_close(loss(theta), expected(theta))
    torch.testing.assert_close(grad(loss)(theta), grad(expected)(theta))
    torch.testing.assert_close(hessian(loss)(theta), hessian(expected)(theta))
    directions = torch.randn(3, 8, dtype=torch.float64)
    products = vmap(lambda v: torch.func.jvp(grad(loss), (theta,), (v,))[1])(directions)
    torch.testing.assert_close(products, directions @ hessian(expected)(theta))


def test_axes_reduce_as_in_numpy() -> None:
    m = torch.arange(6.0).double().reshape(2, 3)
    data = {"m": m}
    cases = {
        "sum(m, 0)": m.sum(0),
        "mean(m, axis=1)": m.mean(1),
        "prod(m, -1)": m.prod(-1),
        "max(m, axis=0)": m.amax(0),
        "norm(m, axis=1)": m.norm(dim=1),
        "logsumexp(m, 1)": m.logsumexp(1),
        "m[:, 1]": m[:, 1],
        "m[1, 0:2]": m[1, :2],
        "transpose(m)[2]": m[:, 2],
    }
    for expression, expected in cases.items():
        problem = build(f"w*sum(({expression} - t)**2)", {**data, "t": torch.zeros(2, 1)}, w=1.0)
        value = problem.loss({"w": torch.ones(()).double()}, {"m": m, "t": expected})
        assert value.item() == 0, expression


def test_full_data_is_exact_however_the_rows_are_batched() -> None:
    x, y = torch.randn(10, 3).double(), torch.randint(0, 5, (10,))
    for reduction in ("mean", "sum"):
        problem = build(f"{reduction}((x@w - y)**2)", {"x": x, "y": y}, reduction, w=[0.1, -0.2, 0.3])
        whole = Objective(problem, dtype=torch.float64).gradient(torch.ones(3).double())
        batched = Objective(problem, dtype=torch.float64, batch_size=8).gradient(torch.ones(3).double())
        assert whole[0] == pytest.approx(batched[0], rel=1e-12)
        torch.testing.assert_close(whole[1], batched[1])


def test_float32_stays_float32_and_literals_stay_exact() -> None:
    problem = build("max(w, 0.1) + softplus(0.1) - 2**0.5*w", w=0.0)
    value = problem.loss({"w": torch.zeros((), dtype=torch.float32)}, {})
    assert value.dtype is torch.float32
    exact = problem.loss({"w": torch.zeros((), dtype=torch.float64)}, {})
    assert exact.item() == pytest.approx(0.1 + math.log1p(math.exp(0.1)), rel=1e-15)


def test_softplus_keeps_its_curvature_beyond_the_threshold_of_torch() -> None:
    loss, theta = flat_loss(build("softplus(w)", w=25.0))
    assert grad(loss)(theta).item() < 1
    assert hessian(loss)(theta).item() == pytest.approx(math.exp(-25), rel=1e-4)


@pytest.mark.parametrize(
    ("expression", "bound"),
    [
        ("(1 - w*v)**2", 0.0),
        ("(1 - w*v)*(1 - w*v)", 0.0),
        ("1 + w**2", 1.0),
        ("3*abs(w) + exp(v)*sigmoid(w) + softplus(v)", 0.0),
        ("cos(w) + sin(v)", -2.0),
        ("(tanh(w) + 1)**2", 0.0),
        ("norm(w)**2 + dot(v, v) + relu(w)/2", 0.0),
        ("max(w, 0) + min(w**2, v**4)", 0.0),
        ("log(1 + w**2)", 0.0),
        ("(3 + sin(w))**2", 4.0),
        ("1/(1 + w**2)", 0.0),
        ("w**2 - 2*v**2", None),
        ("w*v", None),
        ("w**3", None),
        ("w@v", None),
        ("-w**2", None),
        ("w**2*v", None),
        ("logsumexp(w)", None),
        ("exp(w) - v", None),
    ],
)
def test_the_lower_bound_is_sound(expression: str, bound: float | None) -> None:
    w = torch.randn(1, dtype=torch.float64)
    problem = build(f"sum({expression})" if "dot" in expression else f"mean({expression})", w=w, v=w + 1)
    if bound is None:
        assert problem.lower_bound is None
        return
    assert problem.lower_bound == pytest.approx(bound)
    samples = 30 * torch.randn(2, 2_000, 1, dtype=torch.float64)
    values = [problem.loss({"w": w, "v": v}, {}).item() for w, v in zip(*samples, strict=True)]
    assert min(values) >= bound


DATA = {"x": torch.ones(5, 3), "y": torch.ones(5)}
FAULTS = [
    ("__import__('os').system('touch marker')", "two underscores"),
    ("w.__class__", "two underscores"),
    ("9**9**9**9*sum(w)", "not a finite"),
    ("(" * 200 + "w" + ")" * 200, "nested"),
    ("sum(w) + q", "names 'q' (at character 10)"),
    ("w", "shape (3,); reduce it"),
    ("x@w", "shape (3,); reduce it"),
    ("sum(y)", "nothing to vary"),
    ("1 + 1", "nothing to vary"),
    ("sum(w + x@w)", "operator + does not fit shapes (3,) and (3, 1)".replace("(3, 1)", "(5,)")),
    ("w[3]", "index [3] is outside"),
    ("w[0, 0]", "index [0, 0] is outside"),
    ("dot(w, y)", "dot does not fit (3,) and (5,)"),
    ("trace(w)", "trace does not fit"),
    ("sum(w, 4)", "axis 4"),
]


@pytest.mark.parametrize(("expression", "message"), FAULTS, ids=[row[0][:20] for row in FAULTS])
def test_what_cannot_be_evaluated_is_named(expression: str, message: str) -> None:
    with pytest.raises(JobFault) as caught:
        build(expression, DATA, w=[1.0, 2.0, 3.0])
    assert caught.value.code is FailureCode.LOSS_INVALID
    if expression != "x@w":
        assert message in caught.value.detail


def test_the_deepest_expression_that_parses_is_evaluated() -> None:
    deep = "w[0]"
    for _ in range(limits.MAX_EXPRESSION_NESTING - 2):
        deep = f"(1 - 1*{deep}**1)"
    loss, theta = flat_loss(build(deep, w=[0.3]))
    assert loss(theta).item() == pytest.approx(0.3)
    assert grad(loss)(theta).item() == pytest.approx(1.0)


def test_an_accidental_broadcast_over_all_pairs_is_refused_before_it_is_computed() -> None:
    rows = {"x": torch.ones(100_000, 1), "y": torch.ones(100_000)}
    with pytest.raises(JobFault, match="broadcast") as caught:
        build("mean((x@w - y)**2)", rows, w=[[1.0]])
    assert caught.value.code is FailureCode.RESOURCE_LIMIT


def test_one_name_for_two_tensors_is_refused() -> None:
    with pytest.raises(JobFault, match="rename"):
        build("sum(w)", {"w": torch.ones(3)}, w=[1.0])


def test_whole_number_tensors_of_the_checkpoint_are_constants() -> None:
    problem = build("(w - n)**2", w=1.0, n=torch.tensor(3))
    assert list(problem.params) == ["w"]
    assert Objective(problem, dtype=torch.float64).loss(torch.ones(1).double()) == 4
