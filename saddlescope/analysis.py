"""The recipe on one page: objective, spectrum, criticality, verdict, escapes, report."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import saddlescope
from saddlescope.charting import make_landscape, make_spectrum
from saddlescope.contract.jobs import Options
from saddlescope.contract.vocabulary import Method, Precision, Reduction, Stage
from saddlescope.curvature.contraction import Contraction, conjugate_gradients, dense_solve, newton_contraction
from saddlescope.curvature.criticality import Criticality, assess
from saddlescope.curvature.degenerate import KernelFinding, examine_kernel, is_consistent
from saddlescope.curvature.escape import EscapePath, descent, search
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.memory import plan_batch_size
from saddlescope.curvature.noise import Preflight, preflight, smoothness
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.planner import EtaClock, Plan, plan
from saddlescope.curvature.probes import arc_escape, probe_decrease
from saddlescope.curvature.sampling import SampledCurvature, gradient_sampling, sampled_curvature
from saddlescope.curvature.spectrum import SpectralKnowledge, by_eigendecomposition, by_lanczos
from saddlescope.curvature.subspace import search_subspace
from saddlescope.curvature.symmetry import explain_kernel
from saddlescope.curvature.valley import Valley, walk_valley
from saddlescope.curvature.verdict import Evidence, decide
from saddlescope.curvature.warmup import settle_vector_functions
from saddlescope.reporting import Findings, cautions, make_report
from saddlescope.results import AnalysisReport

AFTERWARDS = 40  # products' worth of criticality, escapes and landscape
ROUNDING_FACTOR = 8  # times the loss's noise: a smaller distance to a bound is none


@dataclass(frozen=True)
class ProgressUpdate:
    """Where an analysis is; the partial λ_min is a Ritz value with its residual norm."""

    stage: Stage
    fraction: float
    matvecs: int
    eta_seconds: float | None = None
    lambda_min: float | None = None
    residual_norm: float | None = None


OnProgress = Callable[[ProgressUpdate], None]


def analyze(
    loss: Callable[..., Tensor],
    params: Mapping[str, Tensor],
    data: Mapping[str, Tensor] | None = None,
    *,
    batch_size: int | None = None,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    lower_bound: float | None = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> AnalysisReport:
    """Analyse θ here, in this process; the report is the one the service gives.

    Args:
        loss: `loss(params, batch)`, or `loss(params)` without data, to a scalar tensor. `params` are tensors under the
            names given; use `torch.func.functional_call` for a module.
        params: the checkpoint; floating-point tensors vary, others stay fixed.
        data: tensors that share dimension 0.
        batch_size: rows a batch; all rows when None. L is over all rows in any case.
        reduction: how `loss` combines the rows of a batch, "mean" or "sum".
        weight_decay: adds ½·weight_decay·‖θ‖².
        lower_bound: a number that L never falls below (0 for mean squared error); it sharpens the test of criticality.
        options: as in the HTTP contract (`method`, `dtype`, `num_escape_vectors`, `zero_tol`, `seed`, …).

    Raises:
        pydantic.ValidationError: an option is unknown or out of range.
        saddlescope.curvature.errors.AnalysisError: L is not finite, not deterministic or not differentiable at θ.
    """
    chosen = Options.model_validate({**options, "batch_size": batch_size})
    if not params:
        raise ValueError("params is empty: there is nothing to analyse")
    if data is not None and len({tensor.shape[0] for tensor in data.values()}) > 1:
        raise ValueError(f"data tensors must share dimension 0; they have { {k: v.shape[0] for k, v in data.items()} }")
    takes_batch = data is not None or _takes_batch(loss)
    problem = Problem(
        loss=loss if takes_batch else lambda tensors, _: loss(tensors),
        params={name: tensor for name, tensor in params.items() if tensor.is_floating_point()},
        constants={name: tensor for name, tensor in params.items() if not tensor.is_floating_point()},
        data=data or {},
        reduction=Reduction(reduction),
        weight_decay=weight_decay,
        lower_bound=lower_bound,
    )
    device = str(next(iter(params.values())).device)
    return analyze_problem(problem, chosen, device=device, on_progress=on_progress)


def _takes_batch(loss: Callable[..., Tensor]) -> bool:
    required = [
        parameter
        for parameter in inspect.signature(loss).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) > 1


def analyze_problem(
    problem: Problem, options: Options, *, device: str = "cpu", on_progress: OnProgress | None = None
) -> AnalysisReport:
    """Everything that the options ask about θ, from a `Problem`.

    Raises:
        AnalysisError: L is not finite, not deterministic or not differentiable at θ, or the method does not fit.
    """
    return _Analysis(problem, options, device, on_progress or (lambda _: None)).run()


class _Analysis:
    """One run of the recipe; its steps share the objective, the operator and the random stream."""

    def __init__(self, problem: Problem, options: Options, device: str, on_progress: OnProgress) -> None:
        settle_vector_functions()
        self.began = time.perf_counter()
        self.options, self.on_progress = options, on_progress
        sizes = sum(tensor.numel() for tensor in problem.params.values())
        self.plan: Plan = plan(
            sizes,
            method=options.method,
            precision=options.dtype,
            max_matvecs=options.max_matvecs,
            has_float64=any(tensor.dtype == torch.float64 for tensor in problem.params.values()),
        )
        dtype = torch.float64 if self.plan.precision is Precision.FLOAT64 else torch.float32
        self.objective = Objective(problem, dtype=dtype, device=device, batch_size=options.batch_size)
        if options.batch_size is None:
            self.objective.batch_size = plan_batch_size(self.objective, self.objective.theta)
        self.operator = HessianOperator(self.objective, self.objective.theta, expected_matvecs=self.plan.max_matvecs)
        self.clock = EtaClock()
        self.generator = torch.Generator().manual_seed(options.seed)

    def run(self) -> AnalysisReport:
        self._tell(Stage.PREFLIGHT, 0.0)
        measured = preflight(self.objective, self.operator, generator=self.generator)
        smooth = smoothness(self.objective, self.operator, measured, self._relative_directions(2))
        knowledge = self._spectrum(measured)
        paths = self._escapes(measured, knowledge)
        critical = self._criticality(measured, knowledge, paths)
        kernel, obstacle = self._kernel(critical, knowledge, measured)
        evidence = Evidence(
            criticality=critical,
            smoothness=smooth,
            lambda_min=knowledge.lambda_min,
            lambda_max=knowledge.lambda_max,
            zero_tol=knowledge.zero_tol,
            inertia=knowledge.inertia,
            kernel=kernel,
            kernel_obstacle=obstacle,
            probe_decrease=self._probe(measured, knowledge),
            gap_to_bound=self._gap_to_bound(measured),
            contraction=self._contraction(critical, knowledge, measured),
            valley=self._valley(kernel, knowledge, measured),
            sampled=self._sampled_curvature(),
            is_sample=self.options.data_is_sample,
        )
        decision = decide(evidence)
        self._tell(Stage.ESCAPE, 0.9)
        paths = self._best_first(paths, self._arc(measured, kernel))
        descended = descent(self.objective, measured)
        self._tell(Stage.LANDSCAPE, 0.95)
        landscape = None
        if self.options.landscape:
            landscape = make_landscape(self.objective, self.operator, measured, knowledge, paths)
        findings = Findings(
            objective=self.objective,
            plan=self.plan,
            options=self.options,
            measured=measured,
            knowledge=knowledge,
            evidence=evidence,
            decision=decision,
            paths=paths,
            descent_decrease=descended,
            num_matvecs=self.operator.num_matvecs,
            seconds=time.perf_counter() - self.began,
            warnings=cautions(measured, knowledge, evidence, paths, self.options),
            version=saddlescope.__version__,
        )
        spectrum = make_spectrum(knowledge, size=self.objective.num_parameters, with_density=self.options.density)
        return AnalysisReport(
            make_report(findings),
            lambda: spectrum,
            lambda: landscape,
            [_vector_of(self.objective, path) for path in paths],
        )

    def _tell(self, stage: Stage, fraction: float, lowest: float | None = None, residual: float | None = None) -> None:
        """Tell where the run is; what remains is counted in products at the pace seen so far."""
        done = self.operator.num_matvecs
        self.clock.tick(done, time.monotonic())
        left = max(0, self.plan.max_matvecs - done) if stage in (Stage.DENSE, Stage.LANCZOS) else 0
        eta = self.clock.remaining_seconds(left + AFTERWARDS)
        self.on_progress(ProgressUpdate(stage, fraction, done, eta, lowest, residual))

    def _relative_directions(self, count: int) -> list[Tensor]:
        scales, size = self.objective.relative_scales(), self.objective.num_parameters
        return [
            size**0.5
            * scales
            * sphere_vector(size, generator=self.generator, dtype=self.objective.dtype, device=self.objective.device)
            for _ in range(count)
        ]

    def _spectrum(self, measured: Preflight) -> SpectralKnowledge:
        options = self.options
        if self.plan.method is Method.DENSE:
            return by_eigendecomposition(
                self.operator,
                measured,
                zero_tol=options.zero_tol,
                num_directions=options.num_escape_vectors,
                generator=self.generator,
                on_progress=lambda fraction: self._tell(Stage.DENSE, 0.05 + 0.6 * fraction),
            )
        return by_lanczos(
            self.operator,
            measured,
            max_matvecs=self.plan.max_matvecs,
            failure_probability=1 - options.confidence,
            zero_tol=options.zero_tol,
            num_directions=options.num_escape_vectors,
            generator=self.generator,
            seed=options.seed,
            on_progress=lambda fraction, lowest, residual: self._tell(
                Stage.LANCZOS, 0.05 + 0.6 * min(fraction, 1.0), lowest, residual
            ),
        )

    def _criticality(
        self, measured: Preflight, knowledge: SpectralKnowledge, paths: tuple[EscapePath, ...]
    ) -> Criticality:
        self._tell(Stage.CRITICALITY, 0.8)
        matvec: Callable[[Tensor], Tensor] = self.operator.matvec
        if knowledge.dense is not None:
            hessian = knowledge.dense.hessian.to(self.objective.dtype)
            matvec = hessian.__matmul__
        sampling = None
        if self.options.data_is_sample:
            sampling = gradient_sampling(
                self.objective, matvec, loss_noise=measured.loss_noise, generator=self.generator
            )
        return assess(
            self.objective,
            matvec,
            measured,
            gradient_tol=self.options.gradient_tol,
            critical_rtol=self.options.critical_rtol,
            known_decrease=max((path.decrease for path in paths if path.verified), default=0.0),
            generator=self.generator,
            sampling_error=None if sampling is None else sampling.sampling_error,
            sampling_decrease=0.0 if sampling is None else sampling.decrease,
        )

    def _sampled_curvature(self) -> SampledCurvature | None:
        if not self.options.data_is_sample:
            return None
        failure = 1 - self.options.confidence
        return sampled_curvature(self.objective, failure_probability=failure, generator=self.generator)

    def _kernel(
        self, critical: Criticality, knowledge: SpectralKnowledge, measured: Preflight
    ) -> tuple[KernelFinding | None, str]:
        """Orders three and four, where they may decide: a semidefinite Hessian with a kernel, ‖g‖ zero to rounding.

        Without a finding, the second entry says what stood in the way.
        """
        dense, inertia = knowledge.dense, knowledge.inertia
        if dense is None or inertia is None or not inertia[1] or (inertia[0] and inertia[2]):
            return None, "which is not needed here"
        if self.plan.precision is Precision.FLOAT32:
            return None, "which single precision cannot resolve: analyse with dtype float64"
        if not critical.is_zero_to_rounding:
            return None, (
                "only where the gradient is zero to rounding, which it is not here: train on, or search the critical point"
            )
        self._tell(Stage.DEGENERATE, 0.85)
        is_zero = dense.eigenvalues.abs() <= knowledge.zero_tol
        kernel = dense.eigenvectors[:, is_zero]
        explanation = explain_kernel(self.objective, self.operator, kernel, measured, knowledge.scale)
        is_explained = explanation.dimension == kernel.shape[1]
        theta = self.operator.theta.detach()
        if not is_explained and not is_consistent(self.objective, theta, generator=self.generator):
            return None, (
                "but an operation of this loss has wrong third or fourth derivatives in autograd (layer_norm is known to): "
                "write it out in elementary operations"
            )
        finding = examine_kernel(
            self.objective,
            theta,
            kernel=kernel,
            pseudo_inverse=(dense.eigenvalues[~is_zero], dense.eigenvectors[:, ~is_zero]),
            generator=self.generator,
            explanation=explanation,
        )
        return finding, ""

    def _contraction(
        self, critical: Criticality, knowledge: SpectralKnowledge, measured: Preflight
    ) -> Contraction | None:
        if critical.is_zero_to_rounding or not critical.is_critical:
            return None
        if knowledge.dense is not None:
            if knowledge.inertia is None or (knowledge.inertia[0] and knowledge.inertia[2]):
                return None
            return newton_contraction(self.objective, measured, dense_solve(knowledge.dense, knowledge.zero_tol))
        if knowledge.lambda_min.low > knowledge.zero_tol:
            return newton_contraction(self.objective, measured, conjugate_gradients(self.operator.matvec))
        return None

    def _valley(self, kernel: KernelFinding | None, knowledge: SpectralKnowledge, measured: Preflight) -> Valley | None:
        if kernel is None or knowledge.dense is None or kernel.silent is None:
            return None
        assert knowledge.inertia is not None  # noqa: S101 - dense
        is_below = knowledge.inertia[0] > 0 or (kernel.has_descent and not knowledge.inertia[2])
        return walk_valley(
            self.objective,
            measured,
            kernel.silent,
            dense_solve(knowledge.dense, knowledge.zero_tol),
            generator=self.generator,
            upward=is_below,
        )

    def _probe(self, measured: Preflight, knowledge: SpectralKnowledge) -> float:
        if knowledge.inertia is None or knowledge.inertia[0] or knowledge.inertia[2]:
            return 0.0
        return probe_decrease(self.objective, measured, self._relative_directions(4))

    def _gap_to_bound(self, measured: Preflight) -> float | None:
        bound = self.objective.problem.lower_bound
        if bound is None:
            return None
        gap = measured.loss - bound
        return 0.0 if gap <= ROUNDING_FACTOR * measured.loss_noise else gap

    def _escapes(self, measured: Preflight, knowledge: SpectralKnowledge) -> tuple[EscapePath, ...]:
        self._tell(Stage.ESCAPE, 0.7)
        directions = knowledge.lowest[: self.options.num_escape_vectors]
        paths = [search(self.objective, direction, measured) for direction in directions]
        combined = search_subspace(self.objective, self.operator, directions, measured, generator=self.generator)
        return tuple(paths if combined is None else [*paths, combined])

    def _arc(self, measured: Preflight, kernel: KernelFinding | None) -> EscapePath | None:
        if kernel is None or kernel.down is None or not self.options.num_escape_vectors:
            return None
        return arc_escape(self.objective, self.operator, measured, kernel.down)

    def _best_first(self, paths: tuple[EscapePath, ...], arc: EscapePath | None) -> tuple[EscapePath, ...]:
        every = paths if arc is None else (*paths, arc)
        ordered = sorted(every, key=lambda path: (not path.verified, path.loss_after))
        return tuple(ordered[: self.options.num_escape_vectors])


def _vector_of(objective: Objective, path: EscapePath) -> Callable[[], dict[str, Tensor]]:
    return lambda: objective.checkpoint_tensors(path.vector)
