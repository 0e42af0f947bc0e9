"""The recipe: objective, spectrum, criticality, verdict, escapes; what it finds is put into words elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import saddlescope
from saddlescope.attempt import Attempt
from saddlescope.charting import make_landscape
from saddlescope.contract.jobs import Options
from saddlescope.contract.vocabulary import Method, Precision, Stage
from saddlescope.curvature import higher_order
from saddlescope.curvature.criticality import KRYLOV_PRODUCTS, Criticality, assess
from saddlescope.curvature.degenerate import KernelFinding
from saddlescope.curvature.escape import EscapePath, descent, search
from saddlescope.curvature.evidence import Decision, Evidence
from saddlescope.curvature.kantorovich import Kantorovich, near_critical_point
from saddlescope.curvature.lanczos import sphere_vector
from saddlescope.curvature.memory import plan_batch_size
from saddlescope.curvature.noise import Preflight, preflight, smoothness
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.planner import Plan, plan
from saddlescope.curvature.probes import arc_escape, probe_decrease
from saddlescope.curvature.sampling import SampledCurvature, gradient_sampling, sampled_curvature
from saddlescope.curvature.spectrum import SpectralKnowledge, by_eigendecomposition, by_lanczos
from saddlescope.curvature.subspace import search_subspace
from saddlescope.curvature.verdict import decide
from saddlescope.deadline import ESSENTIAL, LINE_SEARCH
from saddlescope.findings import Findings
from saddlescope.wording import cautions

LANDSCAPE = 60  # evaluations of L, at least
KERNEL_SEARCH = 9_000  # worth of evaluations of L: starts, steps and fourth derivatives
KANTOROVICH_SIZE = 1_000
KANTOROVICH_PRODUCTS = 60  # from scratch, at other points
ROUNDING_FACTOR = 8  # times the loss's noise: a smaller distance to a bound is none


@dataclass(frozen=True)
class Examination:
    """What decides at a point, and the decision; `paths` are the escapes along negative curvature."""

    measured: Preflight
    knowledge: SpectralKnowledge
    paths: tuple[EscapePath, ...]
    evidence: Evidence
    decision: Decision


class Recipe:
    """The recipe at one point; its steps share the objective, the operator and the random stream.

    Args:
        problem: with the point as its parameters.
        options: what is asked.
        device: where the work is done.
        attempt: what accompanies the run.
        earlier_matvecs: products spent before, at other points.
        is_found: the point is where a search of the gradient's zeros ended.
    """

    def __init__(
        self,
        problem: Problem,
        options: Options,
        *,
        device: str,
        attempt: Attempt,
        earlier_matvecs: int = 0,
        is_found: bool = False,
    ) -> None:
        self.options, self.attempt, self.deadline = options, attempt, attempt.deadline
        self.earlier_matvecs, self.is_found = earlier_matvecs, is_found
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
        known = attempt.recognize(self.objective, options)
        if known is not None:
            self.objective.batch_size = min(known.batch_size, self.objective.num_examples)
        elif options.batch_size is None:
            self.objective.batch_size = plan_batch_size(self.objective, self.objective.theta)
        self.operator = attempt.operator(
            self.objective, expected_matvecs=self.plan.max_matvecs, may_save=self._may_save
        )
        self.generator = torch.Generator().manual_seed(options.seed)

    def examine(self) -> Examination:
        """All that decides, in the order in which each needs what the former found."""
        self._tell(Stage.PREFLIGHT, 0.0)
        measured = preflight(self.objective, self.operator, generator=self.generator)
        smooth = smoothness(self.objective, self.operator, measured, self._relative_directions(2))
        self.deadline.measure(self.operator)
        self.plan = self.deadline.fitted(self.plan, self.objective.num_parameters)
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
            sampled=self._sampled_curvature(),
            is_sample=self.options.data_is_sample,
            is_found=self.is_found,
            kantorovich=self._kantorovich(critical, knowledge, measured),
        )
        return Examination(measured, knowledge, paths, evidence, decide(evidence))

    def conclude(self, examined: Examination) -> Findings:
        """What else was asked for: the way out, what descent gains, the landscape."""
        measured, knowledge, evidence = examined.measured, examined.knowledge, examined.evidence
        self._tell(Stage.ESCAPE, 0.9)
        paths = self._best_first(examined.paths, self._arc(measured, evidence.kernel))
        descended = self.descent(measured)
        self._tell(Stage.LANDSCAPE, 0.95)
        landscape = None
        if self.options.landscape and self.deadline.allows(products=2, losses=LANDSCAPE, or_else="the landscape"):
            landscape = make_landscape(self.objective, self.operator, measured, knowledge, paths)
        return Findings(
            objective=self.objective,
            plan=self.plan,
            options=self.options,
            measured=measured,
            knowledge=knowledge,
            evidence=evidence,
            decision=examined.decision,
            paths=paths,
            landscape=landscape,
            descent_decrease=descended,
            num_matvecs=self.num_matvecs,
            seconds=self.attempt.seconds,
            warnings=(*cautions(measured, knowledge, evidence, paths), *self.attempt.cautions()),
            version=saddlescope.__version__,
        )

    @property
    def num_matvecs(self) -> int:
        """Products spent on the question so far."""
        return self.earlier_matvecs + self.operator.num_matvecs

    def descent(self, measured: Preflight) -> float:
        """What a line-searched step along −g gains; 0 where the deadline leaves no time for it."""
        if not self.deadline.allows(losses=LINE_SEARCH, or_else="a line search along the gradient"):
            return 0.0
        return descent(self.objective, measured)

    def _may_save(self, operator: HessianOperator) -> bool:
        # Before the way of the rows is known a resumed run would have to measure it, and might choose another.
        return self.plan.method is Method.LANCZOS or operator.row_block is not None

    def _tell(self, stage: Stage, fraction: float, lowest: float | None = None, residual: float | None = None) -> None:
        left = max(0, self.plan.max_matvecs - self.operator.num_matvecs) if stage in (Stage.DENSE, Stage.LANCZOS) else 0
        self.attempt.tell(stage, fraction, matvecs=self.num_matvecs, remaining=left, lowest=lowest, residual=residual)

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
            on_progress=lambda fraction, lowest, residual: self._tell(
                Stage.LANCZOS, 0.05 + 0.6 * min(fraction, 1.0), lowest, residual
            ),
            is_late=lambda: self.deadline.is_late_for(*ESSENTIAL),
        )

    def _criticality(
        self, measured: Preflight, knowledge: SpectralKnowledge, paths: tuple[EscapePath, ...]
    ) -> Criticality:
        self._tell(Stage.CRITICALITY, 0.8)
        matvec: Callable[[Tensor], Tensor] = self.operator.matvec
        if knowledge.dense is not None:
            hessian = knowledge.dense.hessian.to(self.objective.dtype)
            matvec = hessian.__matmul__
        affordable = KRYLOV_PRODUCTS
        if knowledge.dense is None and not self.deadline.allows(products=KRYLOV_PRODUCTS):
            affordable = max(1, min(KRYLOV_PRODUCTS, int(self.deadline.affordable_matvecs(reserve=(0, 0)))))
            self.deadline.omitted.append(f"{KRYLOV_PRODUCTS - affordable} products of the test of criticality")
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
            num_products=affordable,
        )

    def _sampled_curvature(self) -> SampledCurvature | None:
        if not self.options.data_is_sample:
            return None
        failure = 1 - self.options.confidence
        return sampled_curvature(self.objective, failure_probability=failure, generator=self.generator)

    def _kernel(
        self, critical: Criticality, knowledge: SpectralKnowledge, measured: Preflight
    ) -> tuple[KernelFinding | None, str]:
        """What orders three and four say, where they may decide; without a finding, what stood in the way."""
        if in_the_way := higher_order.obstacle(self.objective, critical, knowledge):
            return None, in_the_way
        if not self.deadline.allows(losses=KERNEL_SEARCH, or_else="orders three and four"):
            return None, "for which the deadline left no time"
        self._tell(Stage.DEGENERATE, 0.85)
        return higher_order.examined(self.objective, self.operator, measured, knowledge, generator=self.generator)

    def _kantorovich(
        self, critical: Criticality, knowledge: SpectralKnowledge, measured: Preflight
    ) -> Kantorovich | None:
        """Whether there is a critical point within reach, where H is regular and the question is open."""
        is_small = knowledge.dense is not None and self.objective.num_parameters <= KANTOROVICH_SIZE
        if not self.is_found and (not is_small or not critical.is_critical or critical.is_zero_to_rounding):
            return None
        eigenpairs = None
        if knowledge.dense is not None:
            eigenpairs = knowledge.dense.eigenvalues, knowledge.dense.eigenvectors
            least = eigenpairs[0].abs().min().item()
        else:
            least = max(knowledge.lambda_min.low, -knowledge.lambda_max.high)
        if not least > knowledge.zero_tol or not self.deadline.allows(products=KANTOROVICH_PRODUCTS):
            return None
        return near_critical_point(
            self.objective,
            self.operator.theta,
            measured.gradient,
            inverse_norm=1 / least,
            eigenpairs=eigenpairs,
            generator=torch.Generator().manual_seed(self.options.seed),
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
        paths: list[EscapePath] = []
        for index, direction in enumerate(directions):
            if index and not self.deadline.allows(
                products=KRYLOV_PRODUCTS, losses=2 * LINE_SEARCH, or_else=f"{len(directions) - index} escapes"
            ):
                return tuple(paths)
            paths.append(search(self.objective, direction, measured))
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
