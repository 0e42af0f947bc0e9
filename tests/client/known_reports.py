"""Reports for tests that need one and no analysis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from saddlescope import AnalysisReport
from saddlescope.contract.reports import Landscape, Report, Spectrum


def report_with(
    directions: list[Mapping[str, Tensor]],
    *,
    step: float = 1.0,
    loss_after: float = 0.25,
    verdict: str = "saddle",
    action: str = "escape",
) -> AnalysisReport:
    """A saddle with these ways out, or by its words something else."""
    escapes = [
        {
            "index": index,
            "curvature": -2.0,
            "residual_norm": 0.0,
            "slope": 0.0,
            "step": step,
            "loss_before": 1.0,
            "loss_after": loss_after,
            "predicted_decrease": 1.0,
            "decrease": 1.0 - loss_after,
            "verified": True,
            "curve": {"step": [0.0, step], "loss": [1.0, loss_after], "quadratic": [1.0, 0.0]},
        }
        for index in range(len(directions))
    ]
    report = Report.model_validate(
        {
            "verdict": verdict,
            "summary": "Saddle point: 1 of 2 curvatures is negative <b>",
            "num_parameters": 2,
            "num_examples": 1,
            "loss": 1.0,
            "advice": {"action": action, "because": "it lowers the loss"},
            "criticality": {
                "is_critical": True,
                "gradient_norm": 0.0,
                "gradient_tol": None,
                "rounding_floor": 0.0,
                "sampling_error": None,
                "predicted_decrease": 0.0,
                "reference_decrease": 1.0,
                "critical_rtol": 0.01,
                "rule": "loss",
            },
            "inertia": {"negative": 1, "zero": 0, "positive": 1, "zero_tol": 1e-12, "exact": True},
            "minimum_ratio": {"estimate": 0.5, "low": 0.5, "high": 0.5, "exact": True},
            "lambda_min": {"estimate": -2.0, "low": -2.0, "high": -2.0, "confidence": 1.0},
            "lambda_max": {"estimate": 2.0, "low": 2.0, "high": None, "confidence": 0.999},
            "evidence": {"order": 2, "strength": "proved", "failure_probability": 0.0, "statement": "a product"},
            "escapes": escapes,
            "numerics": {
                "method": "dense",
                "dtype": "float64",
                "device": "cpu",
                "num_matvecs": 2,
                "seconds": 0.1,
                "seed": 0,
                "spectral_scale": 2.0,
                "matvec_noise": 0.0,
                "asymmetry": 0.0,
            },
            "versions": {"saddlescope": "0"},
            "warnings": [],
        }
    )
    return AnalysisReport(
        report,
        spectrum=lambda: Spectrum(
            exact=True, num_parameters=2, zero_tol=1e-12, spectral_scale=2.0, eigenvalues=(-2.0, 2.0)
        ),
        landscape=lambda: Landscape(
            x_label="w1",
            y_label="w2",
            x=(-1.0, 0.0, 1.0),
            y=(-1.0, 1.0),
            loss=((0.0, 1.0, None), (4.0, 1.0, 0.0)),
            quadratic=((0.0, 1.0, 2.0), (2.0, 1.0, 0.0)),
        ),
        vectors=[_returning(direction) for direction in directions],
    )


def _returning(direction: Mapping[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    return lambda: dict(direction)
