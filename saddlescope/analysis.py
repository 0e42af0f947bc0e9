"""From a question to its report, in this process: the library's entrance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from torch import Tensor

from saddlescope.attempt import Attempt, OnProgress, OnSave, ProgressUpdate
from saddlescope.charting import make_spectrum
from saddlescope.contract.jobs import Options
from saddlescope.contract.vocabulary import Reduction
from saddlescope.curvature.escape import EscapePath
from saddlescope.curvature.objective import Objective, Problem
from saddlescope.curvature.saved import SavedRun
from saddlescope.curvature.warmup import settle_vector_functions
from saddlescope.nearby import conclude_nearby
from saddlescope.point import Point
from saddlescope.recipe import conclude, examine
from saddlescope.reporting import make_report
from saddlescope.results import AnalysisReport

__all__ = ["OnProgress", "OnSave", "ProgressUpdate", "SavedRun", "analyze", "analyze_problem"]


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
    problem: Problem,
    options: Options,
    *,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    saved: SavedRun | None = None,
    on_save: OnSave | None = None,
    save_every_seconds: float = 60.0,
    deadline: float | None = None,
) -> AnalysisReport:
    """Everything that the options ask about θ, from a `Problem`.

    Args:
        problem: what is analysed.
        options: as in the HTTP contract.
        device: where the work is done.
        on_progress: is told where the run is; what it raises ends the run.
        saved: the state of an earlier run, which this one goes on from. The report is that of an undisturbed run, bit for bit but
            for the seconds. A state of another question is ignored with a warning.
        on_save: is given the state between two products, whenever `save_every_seconds` have passed since the last.
        save_every_seconds: a save takes as many bytes as the products so far.
        deadline: moment of `time.monotonic` to be done by. The run measures its pace and leaves out what does not fit, says so in
            the warnings, and claims what the evidence then carries. A hint, not a limit: nothing is interrupted.

    Raises:
        AnalysisError: L is not finite, not deterministic or not differentiable at θ, or the method does not fit.
    """
    settle_vector_functions()
    attempt = Attempt(
        on_progress=on_progress,
        saved=saved,
        on_save=on_save,
        save_every_seconds=save_every_seconds,
        deadline=deadline,
    )
    point = Point(problem, options, device=device, attempt=attempt)
    is_searched = options.critical_point_search
    findings = conclude_nearby(point) if is_searched else conclude(point, examine(point))
    objective, landscape = findings.objective, findings.landscape
    spectrum = make_spectrum(findings.knowledge, size=objective.num_parameters, with_density=options.density)
    vectors = [_vector_of(objective, path) for path in findings.paths]
    return AnalysisReport(make_report(findings), lambda: spectrum, lambda: landscape, vectors)


def _vector_of(objective: Objective, path: EscapePath) -> Callable[[], dict[str, Tensor]]:
    return lambda: objective.checkpoint_tensors(path.vector)
