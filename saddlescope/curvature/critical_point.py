"""From θ to a critical point near it: a trust-region Newton method on g(θ) = 0, that is on ½‖g‖².

Saddles attract it as much as minima. Each step solves min ‖Hd + g‖ within a radius over a Krylov space of H (a
Levenberg–Marquardt step by MINRES; Roosta, Liu, Xu, Mahoney 2018). Where it ends at no critical point, trust-region
Newton on L descends from θ first. A point where ½‖g‖² is stationary though g ≠ 0 is told apart and never called critical.
Lengths are relative to each tensor's own size at the start, so that rescaling a layer changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from saddlescope.curvature.errors import NonFiniteLoss
from saddlescope.curvature.krylov_step import DescentModel, RootModel, Step, displacement
from saddlescope.curvature.lanczos import LanczosCycle, tridiagonalize
from saddlescope.curvature.noise import Preflight
from saddlescope.curvature.objective import Objective
from saddlescope.curvature.operator import HessianOperator
from saddlescope.curvature.search_outcome import CriticalPointSearch, SearchOutcome

DEFAULT_MATVECS = 10_000
FULL_KRYLOV = 300  # up to this n the Krylov space may be the whole space: a dense Newton step
KRYLOV_PRODUCTS = 120
GRADIENT_RTOL = 1e-9
FIRST_RADIUS = 0.3
LARGEST_RADIUS = 1.0
SMALLEST_RADIUS = 1e-10
FARTHEST = 5.0
SMALL_STEP = 1e-2
SHRUNK_STEP = 0.1
FLAT_RTOL = 1e-3
FLAT_IMAGE = 1e-2
PATIENCE = 12
POLISHING_STEPS = 10
DESCENT_STEPS = 200
FLOOR_FACTOR = 8
DUST = 1e-9


def find_critical_point(
    objective: Objective,
    measured: Preflight,
    *,
    max_matvecs: int = DEFAULT_MATVECS,
    operator_at: Callable[[Tensor], HessianOperator] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> CriticalPointSearch:
    """Follow Newton steps on g(θ) = 0 from θ while ‖g‖ falls; failing that, descend L first.

    Costs up to 120 products a step (n for n ≤ 300), and one gradient for each trial. Converges quadratically where H is
    regular, and goes on below the tolerance while steps still halve ‖g‖, so as to end at rounding.
    """
    search = _Search(
        objective,
        measured,
        operator_at or (lambda theta: HessianOperator(objective, theta)),
        on_progress or (lambda _: None),
        max_matvecs,
    )
    direct = search.result(search.reduce_gradient(max_matvecs // 3))
    if direct.is_critical:
        return direct
    search.restart()
    with suppress(NonFiniteLoss):  # the descent is only a better start
        search.descend()
    polished = search.result(search.reduce_gradient(max_matvecs))
    is_nearer = polished.gradient_norm_after < direct.gradient_norm_after and (
        polished.outcome is not SearchOutcome.TOO_FAR and direct.outcome is not SearchOutcome.GRADIENT_FLAT
    )
    return polished if polished.is_critical or is_nearer else direct


class _Search:
    """The moving point; in relative coordinates x = θ/s the gradient is s·g and the Hessian s·H·s."""

    def __init__(
        self,
        objective: Objective,
        measured: Preflight,
        operator_at: Callable[[Tensor], HessianOperator],
        on_progress: Callable[[float], None],
        max_matvecs: int,
    ) -> None:
        self.objective, self.measured, self.operator_at = objective, measured, operator_at
        self.on_progress, self.max_matvecs = on_progress, max_matvecs
        self.scales, self.unit = objective.relative_scales(), math.sqrt(objective.num_parameters)
        self.tolerance = max(measured.gradient_floor, GRADIENT_RTOL * _norm(measured.gradient))
        self.num_matvecs = self.num_steps = 0
        self.restart()

    def restart(self) -> None:
        self.theta, self.gradient, self.loss = self.objective.theta, self.measured.gradient, self.measured.loss
        self.radius, self.steepest, self.num_polished = FIRST_RADIUS, 0.0, 0
        self.newton_step, self.first_newton_step, self.is_flat = math.inf, math.inf, False

    def reduce_gradient(self, budget: int) -> SearchOutcome:
        """Newton steps on g = 0 until it is zero, flat or out of reach."""
        self.radius, norms = FIRST_RADIUS, [self._relative_norm()]
        while True:
            try:
                outcome = self._root_step(budget)
            except NonFiniteLoss:  # a product overflows here, though L and ∇L do not
                return SearchOutcome.STALLED
            norms.append(self._relative_norm())
            if outcome is None and len(norms) > PATIENCE and norms[-1] > 0.99 * norms[-1 - PATIENCE]:
                outcome = self._stopped()
            if outcome is not None:
                return outcome

    def _root_step(self, budget: int) -> SearchOutcome | None:
        norm, before = _norm(self.gradient), self._relative_norm()
        if norm == 0.0 or (norm <= self.measured.gradient_floor and self.num_steps == 0):
            self.newton_step = 0.0
            return SearchOutcome.CONVERGED
        if self.num_matvecs >= budget:
            return SearchOutcome.BUDGET_SPENT
        model = RootModel(self._cycle(lambda known: RootModel(known, before).is_solved), before)
        self.steepest = max(self.steepest, model.scale)
        self.is_flat = model.image_norm <= FLAT_IMAGE * self.steepest * before
        self.newton_step = model.step(math.inf).length / self.unit
        self.first_newton_step = self.newton_step if math.isinf(self.first_newton_step) else self.first_newton_step
        is_there = norm <= self.tolerance and self.newton_step <= min(SMALL_STEP, SHRUNK_STEP * self.first_newton_step)
        if is_there:
            self.num_polished += 1
        while self.radius > SMALLEST_RADIUS and self.num_polished <= POLISHING_STEPS:
            step = model.step(self.radius * self.unit)
            if step.predicted > (1 - FLAT_RTOL) * before and self.radius >= SMALL_STEP and not is_there:
                break  # the model is trusted this far and promises nothing
            trial, loss, gradient = self._try(model.cycle, step)
            after = _norm(self.scales * gradient)
            gained, promised = before**2 - after**2, before**2 - step.predicted**2
            if math.isfinite(loss) and gained > 0.05 * promised > 0 and not (is_there and after > before / 2):
                self._accept(trial, loss, gradient)
                self._widen(step, gained / promised)
                return SearchOutcome.TOO_FAR if self._moved() > FARTHEST else None
            if is_there:
                break
            self.radius = min(self.radius, step.length / self.unit) / 4
        if is_there:
            return SearchOutcome.CONVERGED
        return self._stopped()

    def descend(self) -> None:
        """Trust-region Newton on L until its decrease is lost in rounding, the point has gone far, or ‖g‖ is small."""
        for _ in range(DESCENT_STEPS):
            norm = self._relative_norm()
            if norm == 0.0 or self.num_matvecs >= self.max_matvecs or self._moved() > FARTHEST:
                return
            cycle = self._cycle(lambda known, norm=norm: RootModel(known, norm).is_solved)  # type: ignore[misc]
            model = DescentModel(cycle, norm)
            while self.radius > SMALLEST_RADIUS:
                step = model.step(self.radius * self.unit)
                if step.predicted <= 100 * self.measured.loss_noise:
                    return
                trial, loss, gradient = self._try(cycle, step)
                ratio = (self.loss - loss) / step.predicted if math.isfinite(loss) else -1.0
                if ratio > 0.05:
                    self._accept(trial, loss, gradient)
                    self._widen(step, ratio)
                    break
                self.radius = min(self.radius, step.length / self.unit) / 4
            else:
                return

    def _stopped(self) -> SearchOutcome:
        return SearchOutcome.GRADIENT_FLAT if self.is_flat else SearchOutcome.STALLED

    def _try(self, cycle: LanczosCycle, step: Step) -> tuple[Tensor, float, Tensor]:
        trial = self.theta + self.scales * displacement(cycle, step)
        return (trial, *self.objective.gradient(trial))

    def _accept(self, trial: Tensor, loss: float, gradient: Tensor) -> None:
        self.theta, self.loss, self.gradient = trial, loss, gradient
        self.num_steps += 1
        self.on_progress(min(self.num_matvecs / self.max_matvecs, 1.0))

    def _widen(self, step: Step, ratio: float) -> None:
        if ratio > 0.5 and step.length > 0.9 * self.radius * self.unit:
            self.radius = min(2 * self.radius, LARGEST_RADIUS)

    def _cycle(self, is_enough: Callable[[LanczosCycle], bool]) -> LanczosCycle:
        operator = self.operator_at(self.theta)
        size = self.objective.num_parameters
        most = min(size if size <= FULL_KRYLOV else KRYLOV_PRODUCTS, max(self.max_matvecs - self.num_matvecs, 1))
        start = self.scales * self.gradient
        cycle = tridiagonalize(
            lambda vector: self.scales * operator.matvec(self.scales * vector),
            start / start.abs().max(),  # squares of a tiny gradient would underflow
            num_matvecs=most,
            should_stop=is_enough,
            check_every=10,
            bases=self.objective.problem.bases,
        )
        self.num_matvecs += operator.num_matvecs
        return cycle

    def _relative_norm(self) -> float:
        return _norm(self.scales * self.gradient)

    def _moved(self) -> float:
        return _norm((self.theta - self.objective.theta) / self.scales) / self.unit

    def _without_dust(self) -> None:
        """Entries that fell to rounding of their tensor's size become zero, so that relative steps keep a meaning there."""
        cleaned = torch.where(self.theta.abs() <= DUST * self.scales, torch.zeros_like(self.theta), self.theta)
        loss, gradient = self.objective.gradient(cleaned)
        if _norm(gradient) <= max(_norm(self.gradient), self.measured.gradient_floor):
            self.theta, self.loss, self.gradient = cleaned, loss, gradient

    def result(self, outcome: SearchOutcome) -> CriticalPointSearch:
        if outcome is SearchOutcome.CONVERGED and self.num_steps:
            self._without_dust()
        bits = torch.finfo(self.objective.dtype).eps * self.scales
        bits[1::2] *= -1.0
        floor = max(_norm(self.objective.gradient(self.theta + s * bits)[1] - self.gradient) for s in (-1.0, 1.0))
        return CriticalPointSearch(
            theta=self.theta,
            outcome=outcome,
            gradient_norm_before=_norm(self.measured.gradient),
            gradient_norm_after=_norm(self.gradient),
            gradient_tol=self.tolerance,
            rounding_floor=FLOOR_FACTOR * floor,
            distance=_norm(self.theta - self.objective.theta),
            relative_distance=self._moved(),
            newton_step=self.newton_step,
            num_matvecs=self.num_matvecs,
            num_steps=self.num_steps,
        )


def _norm(vector: Tensor) -> float:
    norm: float = vector.double().norm().item()
    return norm
