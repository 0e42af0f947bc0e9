"""The answer: the report of one analysis and the arrays that go with it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from saddlescope.contract.sources import ArtifactId
from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import Action, Caution, Method, Precision, SandboxLevel, Strength, Verdict

SCHEMA_VERSION = 1


class Advice(Closed):
    action: Action
    because: str


class Criticality(Closed):
    """Whether the gradient still buys a decrease that matters; losses in the units of L."""

    is_critical: bool
    gradient_norm: float
    gradient_tol: float | None
    rounding_floor: float
    sampling_error: float | None
    predicted_decrease: float
    reference_decrease: float
    critical_rtol: float
    rule: str


class Inertia(Closed):
    """(n₋, n₀, n₊) at `zero_tol`; estimates unless `exact`."""

    negative: int
    zero: int
    positive: int
    zero_tol: float
    exact: bool


class Interval(Closed):
    """An estimate with bounds that hold with the report's confidence, or surely when `exact`."""

    estimate: float
    low: float
    high: float
    exact: bool


class ExtremeEigenvalue(Closed):
    """An extreme eigenvalue between bounds that hold with probability `confidence`; a missing bound is null."""

    estimate: float
    low: float | None
    high: float | None
    confidence: float


class Evidence(Closed):
    """What the verdict rests on."""

    order: Literal[2, 3, 4]
    strength: Strength
    failure_probability: float
    statement: str
    facts: dict[str, JsonValue] = {}


class Curve(Closed):
    """The true loss and its quadratic model along an escape direction, by step."""

    step: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()
    quadratic: tuple[float, ...] = ()


class Escape(Closed):
    """A unit direction u and a step: θ + step·u has the measured loss `loss_after`."""

    index: int
    curvature: float
    residual_norm: float
    slope: float
    step: float
    loss_before: float
    loss_after: float
    predicted_decrease: float
    decrease: float
    verified: bool
    curve: Curve
    vector: ArtifactId | None = None
    url: str | None = None


class Numerics(Closed):
    """How the numbers were made, so that they can be made again."""

    method: Method
    dtype: Precision
    device: str
    num_matvecs: int
    seconds: float
    seed: int
    spectral_scale: float
    matvec_noise: float
    asymmetry: float
    sandbox: SandboxLevel | None = None
    """How the worker isolated the job; null for an analysis outside the service."""


class Provenance(Closed):
    """The SHA-256 of the bytes that were analysed; null for what came inside the request or was not needed."""

    checkpoint: ArtifactId | None = None
    data: ArtifactId | None = None
    program: ArtifactId | None = None


class ReportWarning(Closed):
    code: Caution
    detail: str


class Report(Closed):
    object: Literal["report"] = "report"
    job: str | None = None
    schema_version: int = SCHEMA_VERSION
    verdict: Verdict
    summary: str
    num_parameters: int
    num_examples: int
    loss: float
    advice: Advice
    criticality: Criticality
    inertia: Inertia
    minimum_ratio: Interval
    lambda_min: ExtremeEigenvalue
    lambda_max: ExtremeEigenvalue
    evidence: Evidence
    escapes: tuple[Escape, ...]
    numerics: Numerics
    provenance: Provenance | None = None
    versions: dict[str, str]
    warnings: tuple[ReportWarning, ...]


class RitzPair(Closed):
    value: float
    residual_norm: float
    weight: float | None = None
    """Mass of the start vector's spectral measure at this value (Gauss quadrature weight)."""


class Density(Closed):
    """Smoothed spectral density for looking at, and sure bounds of the probe's cumulative mass; never for signs."""

    grid: tuple[float, ...]
    density: tuple[float, ...]
    cumulative_low: tuple[float, ...]
    cumulative_high: tuple[float, ...]


class Spectrum(Closed):
    """All eigenvalues in ascending order when exact, else Ritz pairs."""

    object: Literal["spectrum"] = "spectrum"
    job: str | None = None
    exact: bool
    num_parameters: int
    zero_tol: float
    spectral_scale: float
    eigenvalues: tuple[float, ...] | None
    ritz: tuple[RitzPair, ...] = ()
    density: Density | None = None


class LandscapePoint(Closed):
    """A place on the plane of a landscape: x along its first axis, y along its second."""

    x: float
    y: float


class Landscape(Closed):
    """L(θ + a·x + b·y) on a grid, beside its quadratic model. `loss[i][j]` belongs to `y[i]`, `x[j]`."""

    object: Literal["landscape"] = "landscape"
    job: str | None = None
    x_label: str
    y_label: str
    x: tuple[float, ...] = Field(min_length=2)
    y: tuple[float, ...] = Field(min_length=2)
    loss: tuple[tuple[float | None, ...], ...]
    quadratic: tuple[tuple[float, ...], ...]
    escape: LandscapePoint | None = None
    """θ + step·u for the best escape; null where none was found."""
