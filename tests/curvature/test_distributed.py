"""Several processes give the answers of one: two and three CPU processes, ragged rows, a basis in parts, ranks that fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from saddlescope import analyze_distributed
from saddlescope.analysis import ProgressUpdate, analyze_problem
from saddlescope.contract.jobs import Options
from saddlescope.contract.vocabulary import Caution, Method, Reduction, Stage, Verdict
from saddlescope.curvature.certificate import lambda_min_bound
from saddlescope.curvature.distributed import DistributedHessian, DistributedObjective, Ranks, even_rows, part_of
from saddlescope.curvature.driving import Driver
from saddlescope.curvature.errors import NotAdditive
from saddlescope.curvature.lanczos import LanczosCycle, sphere_vector, tridiagonalize
from saddlescope.curvature.member import Member
from saddlescope.curvature.noise import preflight
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.spectrum import by_lanczos
from saddlescope.distributed import RankFailed

CPU, TWO = torch.device("cpu"), ("cpu", "cpu")
THREE = ("cpu", "cpu", "cpu")
ROWS = {2: (range(7), range(7, 10)), 3: (range(4), range(4, 4), range(4, 10))}
VECTORS_OF_ONE = 8  # room on each device, too little for restarts on one
DRAWN = torch.tensor([9, 0, 0, 7, 3, 3, 3, 8, 1, 2])
Numbers = dict[str, Tensor]


def network(reduction: Reduction = Reduction.MEAN, weight_decay: float = 0.0) -> Problem:
    """A two-layer tanh network near zero, with a parameter that it does not use and one under two names; 10 rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    bias = 1e-3 * torch.randn(4, generator=generator, dtype=torch.float64)

    def loss(t: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        prediction = torch.tanh(batch["x"] @ t["W"].T + t["b"] + t["c"]) @ t["v"]
        errors = (prediction - batch["x"][:, 0] * batch["x"][:, 1]) ** 2
        return errors.mean() if reduction is Reduction.MEAN else errors.sum()

    return Problem(
        loss=loss,
        params={
            "W": 1e-3 * torch.randn(4, 3, generator=generator, dtype=torch.float64),
            "b": bias,
            "idle": torch.ones(2, dtype=torch.float64),
            "v": 1e-3 * torch.randn(4, generator=generator, dtype=torch.float64),
            "c": bias,
        },
        data={"x": x},
        reduction=reduction,
        scale=0.7,
        weight_decay=weight_decay,
    )


def quadratic() -> Problem:
    """Ten rows whose quadratics add up to diag(−0.1, 0.5 … 10) in 20,000 parameters; each alone has other eigenvalues."""
    n = 20_000
    curvatures = torch.cat([torch.tensor([-0.1]), torch.linspace(0.5, 10, n - 1)]).double()
    z = torch.randn(10, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(t: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        return (0.5 * (curvatures + batch["z"]) * t["x"] ** 2).sum(dim=1).mean()

    return Problem(loss=loss, params={"x": torch.zeros(n, dtype=torch.float64)}, data={"z": z - z.mean(0)})


def directions(size: int, count: int) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def start(size: int) -> Tensor:
    return sphere_vector(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64, device=CPU)


CASES = {
    "mean": (Reduction.MEAN, 0.3, None),
    "sum": (Reduction.SUM, 0.0, None),
    "small batches": (Reduction.MEAN, 0.3, 2),
}


def alone(case: str) -> Numbers:
    reduction, decay, batch_size = CASES[case]
    objective = Objective(network(reduction, decay), dtype=torch.float64, batch_size=batch_size)
    operator = HessianOperator(objective, objective.theta)
    block = directions(operator.size, 3)
    loss, gradient = objective.gradient(objective.theta)
    return {
        "loss": torch.tensor([loss, objective.loss(objective.theta)], dtype=torch.float64),
        "gradient": gradient,
        "products": torch.stack([operator.matvec(row) for row in block]),
    }


def ends(objective: Objective, *, devices: int) -> Numbers:
    """What Lanczos finds of `quadratic` with restarts, where `devices` times the room of one is at hand."""
    operator, generator = HessianOperator(objective, objective.theta), torch.Generator().manual_seed(4)
    told = by_lanczos(
        operator,
        preflight(objective, operator, generator=generator),
        max_matvecs=90,
        failure_probability=1e-3,
        zero_tol=None,
        num_directions=1,
        generator=generator,
        on_progress=lambda *_: None,
        basis_bytes=8 * operator.size * VECTORS_OF_ONE * devices // objective.problem.bases.num_parts,
    )
    low, high = told.lambda_min, told.lambda_max
    assert told.cycle is not None
    return {
        "ends": torch.tensor(
            [low.estimate, low.low, low.high, high.estimate, high.low, high.high], dtype=torch.float64
        ),
        "steps": torch.tensor([told.cycle.num_steps, operator.num_matvecs, told.num_probes]),
        "lowest": told.lowest_direction.vector,
    }


def measure(rank: int, folder: str, count: int) -> None:
    """Everything that the processes find together, left in a file by each."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    ranks, found = Ranks(rank, count, CPU), {}
    for name, (reduction, decay, batch_size) in CASES.items():
        part = part_of(network(reduction, decay), ROWS[count][rank])
        objective = DistributedObjective(part, ranks, dtype=torch.float64, batch_size=batch_size)
        hessian = DistributedHessian(objective, objective.theta)
        block = directions(hessian.size, 3)
        loss, gradient = objective.gradient(objective.theta)
        products = torch.cat([hessian.matmat(block[:2]), hessian.matvec(block[2])[None]])
        assert hessian.num_matvecs == 3
        losses = torch.tensor([loss, objective.loss(objective.theta)], dtype=torch.float64)
        found[name] = {"loss": losses, "gradient": gradient, "products": products}
    found["driven"] = drive(ranks)
    found["spread"] = spread(ranks)
    torch.save(found, f"{folder}/{rank}")
    dist.destroy_process_group()


def drive(ranks: Ranks) -> Numbers:
    """The same from one side: the driver asks, the other ranks serve."""
    problem = network(weight_decay=0.3)
    part = part_of(problem, ROWS[ranks.count][ranks.rank])
    member = Member(part, ranks, control=dist.new_group(backend="gloo"), batch_size=None)
    if ranks.rank > 0:
        member.serve()
        return {}
    driver = Driver(member, problem)
    objective = Objective(driver.problem, dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta)
    cycle = tridiagonalize(operator.matvec, start(operator.size), num_matvecs=8, bases=driver)
    assert operator.num_matvecs == 8
    z = directions(operator.size, 1)[0]
    leaf = objective.theta.clone().requires_grad_()
    value = objective.batch_loss(leaf, next(objective.batches())[1])
    orders = []
    for _ in range(4):
        (derivative,) = torch.autograd.grad(value, leaf, create_graph=True)
        orders.append(derivative.detach())
        value = torch.dot(derivative, z)
    found = {
        "alpha": cycle.alpha,
        "beta": cycle.beta,
        "basis": cycle.basis,
        "lowest": cycle.vector(cycle.ritz().coefficients[:, 0]),
        "orders": torch.stack(orders),
        "three rows at a time": objective.gradient(objective.theta, batch_size=3)[1],
        "drawn": objective.problem.loss(objective.tensors(objective.theta), {"row": DRAWN})[None],
        "depends": torch.tensor([objective.depends_on(objective.theta, name) for name in ("W", "b", "idle", "c")]),
    }
    driver.stop()
    return found


def spread(ranks: Ranks) -> Numbers:
    """A long cycle whose basis is still there at the end, and on every rank what of it is kept there."""
    problem = quadratic()
    part = part_of(problem, even_rows(10, rank=ranks.rank, count=ranks.count))
    member = Member(part, ranks, control=dist.new_group(backend="gloo"), batch_size=None)
    found: Numbers = {}
    if ranks.rank > 0:
        member.serve()
    else:
        driver = Driver(member, problem)
        objective = Objective(driver.problem, dtype=torch.float64)
        found = ends(objective, devices=ranks.count)
        operator = HessianOperator(objective, objective.theta)
        cycle = tridiagonalize(operator.matvec, start(operator.size), num_matvecs=25, bases=driver)
        found |= {"alpha": cycle.alpha, "beta": cycle.beta, "bound": bound_of(cycle)}
        driver.stop()
    ((_, kept),) = member.bases.items()  # those of `ends` were let go
    return {**found, "kept": torch.tensor(kept.storage.shape)}


def bound_of(cycle: LanczosCycle) -> Tensor:
    bound = lambda_min_bound(cycle, size=cycle.storage.size, failure_probability=1e-3, product_error=1e-15)
    return torch.tensor([bound], dtype=torch.float64)


Together = list[dict[str, Numbers]]


@pytest.fixture(scope="module", params=[2, 3], ids=["two", "three"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(measure, args=(str(folder), request.param), nprocs=request.param)
    return [torch.load(folder / str(rank)) for rank in range(request.param)]


@pytest.mark.parametrize("case", list(CASES))
def test_loss_gradient_and_products_of_ragged_parts_are_those_of_the_whole(case: str, together: Together) -> None:
    for name, expected in alone(case).items():
        torch.testing.assert_close(together[0][case][name], expected, rtol=1e-13, atol=1e-13)
        assert all(torch.equal(together[0][case][name], rank[case][name]) for rank in together[1:])


def test_a_basis_in_parts_gives_the_coefficients_and_the_certificate_of_a_whole_one(together: Together) -> None:
    found = together[0]["spread"]
    objective = Objective(quadratic(), dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta)
    cycle = tridiagonalize(operator.matvec, start(operator.size), num_matvecs=25)
    torch.testing.assert_close(found["alpha"], cycle.alpha, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found["beta"], cycle.beta, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found["bound"], bound_of(cycle), rtol=0, atol=1e-9)
    assert found["bound"].item() <= -0.1
    kept = [rank["spread"]["kept"].tolist() for rank in together]
    assert {rows for rows, _ in kept} == {26}
    assert sum(entries for _, entries in kept) == operator.size
    assert max(entries for _, entries in kept) == -(-operator.size // len(together))


def test_a_basis_that_fits_all_devices_but_not_one_is_restarted_as_on_a_device_of_that_size(together: Together) -> None:
    found = together[0]["spread"]
    expected = ends(Objective(quadratic(), dtype=torch.float64), devices=len(together))
    assert found["steps"].tolist() == expected["steps"].tolist()
    assert found["steps"][0].item() == VECTORS_OF_ONE * len(together) - 1
    torch.testing.assert_close(found["ends"], expected["ends"], rtol=1e-8, atol=1e-8)
    assert torch.dot(found["lowest"], expected["lowest"]).abs().item() == pytest.approx(1.0, abs=1e-7)


def test_the_driver_sees_every_derivative_and_keeps_the_basis_elsewhere(together: Together) -> None:
    found = together[0]["driven"]
    objective = Objective(network(weight_decay=0.3), dtype=torch.float64)
    operator = HessianOperator(objective, objective.theta)
    cycle = tridiagonalize(operator.matvec, start(operator.size), num_matvecs=8)
    torch.testing.assert_close(found["alpha"], cycle.alpha, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found["beta"], cycle.beta, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found["basis"], cycle.basis, rtol=0, atol=1e-7)
    lowest = cycle.vector(cycle.ritz().coefficients[:, 0])
    assert torch.dot(found["lowest"], lowest).abs().item() == pytest.approx(1.0, abs=1e-7)
    z = directions(operator.size, 1)[0]
    leaf = objective.theta.clone().requires_grad_()
    value = objective.batch_loss(leaf, next(objective.batches())[1])
    for order in found["orders"]:
        (derivative,) = torch.autograd.grad(value, leaf, create_graph=True)
        torch.testing.assert_close(order, derivative.detach(), rtol=1e-12, atol=1e-13)
        value = torch.dot(derivative, z)
    gradient = objective.gradient(objective.theta)[1]
    torch.testing.assert_close(found["three rows at a time"], gradient, rtol=1e-13, atol=1e-13)
    drawn = objective.problem.loss(objective.tensors(objective.theta), {"x": network().data["x"][DRAWN]})
    assert found["drawn"].item() == pytest.approx(drawn.item(), rel=1e-14)
    assert found["depends"].tolist() == [True, True, False, True]


def perceptron() -> Problem:
    """A three-layer tanh network of 6,460 parameters on ten rows, in which it is far from done."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"A": (120, 20), "a": (120,), "B": (30, 120), "b": (30,), "C": (10, 30), "c": (10,)}
    params = {name: 0.3 * torch.randn(shape, generator=generator).double() for name, shape in shapes.items()}
    x, y = torch.randn(10, 20, generator=generator).double(), torch.randint(0, 10, (10,), generator=generator)

    def loss(t: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        hidden = torch.tanh(torch.tanh(batch["x"] @ t["A"].T + t["a"]) @ t["B"].T + t["b"])
        return cross_entropy(hidden @ t["C"].T + t["c"], batch["y"])

    return Problem(loss=loss, params=params, data={"x": x, "y": y}, lower_bound=0.0)


@pytest.mark.parametrize(
    ("build", "options", "devices", "verdict"),
    [
        (network, Options(landscape=False, batch_size=4, num_escape_vectors=1), TWO, Verdict.SADDLE),
        (
            quadratic,
            Options(landscape=False, method=Method.LANCZOS, max_matvecs=25, num_escape_vectors=1),
            THREE,
            Verdict.SADDLE,
        ),
        (perceptron, Options(landscape=False, max_matvecs=60), TWO, Verdict.NOT_CRITICAL),
    ],
    ids=["network", "quadratic", "perceptron"],
)
def test_several_processes_report_what_one_does(
    build: Callable[[], Problem], options: Options, devices: tuple[str, ...], verdict: Verdict
) -> None:
    one, several = analyze_problem(build(), options), analyze_distributed(build, options, devices=devices)
    assert several.verdict == one.verdict == verdict
    assert [warning.code for warning in several.warnings] == [warning.code for warning in one.warnings]
    assert several.num_examples == one.num_examples == 10
    assert several.loss == pytest.approx(one.loss, rel=1e-13)
    assert several.report.inertia == one.report.inertia.model_copy(update={"zero_tol": several.report.inertia.zero_tol})
    assert several.report.numerics.num_matvecs == one.report.numerics.num_matvecs
    assert several.report.numerics.device == ", ".join(devices)
    scale = one.report.numerics.spectral_scale
    for mine, theirs in ((one.lambda_min, several.lambda_min), (one.lambda_max, several.lambda_max)):
        assert theirs.estimate == pytest.approx(mine.estimate, abs=1e-10 * scale)
        assert theirs.low == pytest.approx(mine.low, abs=1e-9 * scale)
    mine, theirs = one.criticality, several.criticality
    assert theirs.predicted_decrease == pytest.approx(mine.predicted_decrease, rel=1e-6, abs=1e-12)
    assert several.escapes[0].decrease == pytest.approx(one.escapes[0].decrease, rel=1e-6)
    assert several.escapes[0].vector.keys() == one.escapes[0].vector.keys()
    assert several.spectrum.num_parameters == one.spectrum.num_parameters


def sloping() -> Problem:
    """`network` away from its critical point."""
    problem = network()
    return replace(problem, params={**problem.params, "v": problem.params["v"] + 0.3})


def test_two_processes_find_the_critical_point_that_one_does() -> None:
    options = Options(landscape=False, critical_point_search=True)
    one, two = analyze_problem(sloping(), options), analyze_distributed(sloping, options, devices=TWO)
    assert two.verdict == one.verdict
    mine, theirs = (report.evidence.facts["critical_point"] for report in (one, two))
    assert theirs["distance"] == pytest.approx(mine["distance"], rel=1e-3)
    assert theirs["search"] == mine["search"]


def spoiled(way: str) -> Problem:
    """The second rank's rows make its loss fail in a way of its own."""

    def loss(t: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        if (batch["x"] == 9).any():
            if way == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("row 9 is not to be had")
        return (t["w"] * batch["x"]).square().mean()

    return Problem(loss=loss, params={"w": torch.ones(1)}, data={"x": torch.arange(10.0)})


def raising() -> Problem:
    return spoiled("raises")


def dying() -> Problem:
    return spoiled("dies")


def test_a_rank_that_dies_between_two_vectors_of_a_basis_ends_the_job() -> None:
    seen: list[Stage] = []

    def follow(update: ProgressUpdate) -> None:
        seen.append(update.stage)
        if update.stage is Stage.LANCZOS:
            for process in torch.multiprocessing.active_children():
                if process.name == "rank 1":
                    process.kill()

    with pytest.raises(RankFailed, match=r"rank 1 ended with .* -9"):
        analyze_distributed(perceptron, Options(max_matvecs=2000), devices=TWO, on_progress=follow)
    assert seen[-1] is Stage.LANCZOS
    assert torch.multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("build", "told"),
    [(raising, r"(?s)rank 1 on cpu failed.*ValueError: row 9 is not to be had"), (dying, "rank 1 ended with .* -9")],
)
def test_a_rank_that_fails_ends_the_others_and_says_why(build: Callable[[], Problem], told: str) -> None:
    with pytest.raises(RankFailed, match=told):
        analyze_distributed(build, Options(), devices=TWO)
    assert torch.multiprocessing.active_children() == []


def summed() -> Problem:
    """A sum that calls itself a mean."""
    problem = network(Reduction.SUM)
    return replace(problem, reduction=Reduction.MEAN)


def test_a_loss_that_devices_cannot_share_is_refused_also_as_one_batch() -> None:
    assert Caution.NOT_ADDITIVE in [warning.code for warning in analyze_problem(summed(), Options()).warnings]
    with pytest.raises(NotAdditive, match="to one device"):
        analyze_distributed(summed, Options(), devices=TWO)


def test_rows_are_shared_out_evenly_and_in_whole_batches_where_asked() -> None:
    for count in (1, 2, 3, 7, 12):
        parts = [even_rows(10, rank=rank, count=count) for rank in range(count)]
        assert [row for part in parts for row in part] == list(range(10))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [even_rows(10, rank=rank, count=2, batch_size=4) for rank in range(2)] == [range(8), range(8, 10)]


def test_devices_of_two_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="all CUDA or all CPU"):
        analyze_distributed(network, Options(), devices=("cpu", "cuda:0"))
