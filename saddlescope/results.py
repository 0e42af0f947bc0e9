"""The result of an analysis, the same object from the local library and from the service.

Numbers come with the report; the spectrum, the landscape and the escape vectors are fetched when they are first read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import cached_property
from html import escape as html_escaped
from typing import TYPE_CHECKING, final

from saddlescope.contract.numerals import number
from saddlescope.contract.reports import (
    Advice,
    Criticality,
    Curve,
    Escape,
    Evidence,
    ExtremeEigenvalue,
    Inertia,
    Interval,
    Landscape,
    Numerics,
    Provenance,
    Report,
    ReportWarning,
    Spectrum,
)
from saddlescope.contract.vocabulary import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn


@final
class EscapeDirection:
    """A unit direction u out of a critical point and its step: θ + step·u has the measured loss `loss_after`."""

    def __init__(self, escape: Escape, load_vector: Callable[[], dict[str, Tensor]]) -> None:
        self.escape = escape
        self._load_vector = load_vector

    def __repr__(self) -> str:
        return (
            f"EscapeDirection(index={self.index}, curvature={self.curvature:.6g}, step={self.step:.6g}, "
            f"loss {self.loss_before:.6g} -> {self.loss_after:.6g}, verified={self.verified})"
        )

    @property
    def index(self) -> int:
        return self.escape.index

    @property
    def curvature(self) -> float:
        return self.escape.curvature

    @property
    def residual_norm(self) -> float:
        return self.escape.residual_norm

    @property
    def slope(self) -> float:
        return self.escape.slope

    @property
    def step(self) -> float:
        return self.escape.step

    @property
    def loss_before(self) -> float:
        return self.escape.loss_before

    @property
    def loss_after(self) -> float:
        return self.escape.loss_after

    @property
    def predicted_decrease(self) -> float:
        return self.escape.predicted_decrease

    @property
    def decrease(self) -> float:
        return self.escape.decrease

    @property
    def verified(self) -> bool:
        return self.escape.verified

    @property
    def curve(self) -> Curve:
        return self.escape.curve

    @property
    def url(self) -> str | None:
        return self.escape.url

    @cached_property
    def vector(self) -> dict[str, Tensor]:
        """u by tensor name, with the checkpoint's names, shapes and dtypes; loaded when first read."""
        return self._load_vector()

    def apply_(self, model: nn.Module | MutableMapping[str, Tensor]) -> float:
        """Move θ to θ + step·u in place and return the loss that was measured there.

        Args:
            model: a module, whose tensors are found by their state-dict names, or a dict of tensors.

        Raises:
            ValueError: if a name is missing, a shape differs, a tensor is not floating-point, or tied tensors would
                move differently. Nothing has moved then.
        """
        import torch  # noqa: PLC0415  only a move needs torch

        tensors: Mapping[str, Tensor] = (
            model.state_dict(keep_vars=True) if isinstance(model, torch.nn.Module) else model
        )
        moves = list(_moves(tensors, self.vector))
        with torch.no_grad():
            for tensor, direction in moves:
                # In float64: in float32 or bfloat16 the product step·u would be rounded once more before the sum.
                moved = tensor.double() + self.step * direction.to(tensor.device).double()
                tensor.copy_(moved)
        return self.loss_after


def _moves(tensors: Mapping[str, Tensor], vector: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each tensor that moves, once, with its part of the direction.

    Raises:
        ValueError: if the names or shapes do not fit, or tied tensors would move differently.
    """
    missing = [name for name in vector if name not in tensors]
    if missing:
        raise ValueError(
            f"the direction moves {_listed(missing)}, which the model does not have; it has {_listed(list(tensors))}"
        )
    moved: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    for name, direction in vector.items():
        tensor = tensors[name]
        if tensor.shape != direction.shape:
            raise ValueError(
                f"{name!r} has shape {tuple(tensor.shape)} in the model and {tuple(direction.shape)} in the direction"
            )
        if not tensor.is_floating_point():
            raise ValueError(f"{name!r} has dtype {tensor.dtype} in the model; only floating-point tensors can move")
        if tensor.numel() == 0:
            continue
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        twin = moved.get(place)
        if twin is None:
            moved[place] = name
            yield tensor, direction
        elif not vector[twin].equal(direction):
            raise ValueError(
                f"{twin!r} and {name!r} are one tensor in the model, but the direction moves them apart; "
                "analyse the model with this tensor under one name"
            )


def _listed(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


@final
class AnalysisReport:
    """Everything that one analysis found; `report` is the object of the HTTP contract itself."""

    def __init__(
        self,
        report: Report,
        spectrum: Callable[[], Spectrum],
        landscape: Callable[[], Landscape | None],
        vectors: Sequence[Callable[[], dict[str, Tensor]]],
    ) -> None:
        if len(vectors) != len(report.escapes):
            raise ValueError(f"{len(report.escapes)} escapes in the report and {len(vectors)} vectors")
        self.report = report
        self.escapes: tuple[EscapeDirection, ...] = tuple(
            EscapeDirection(escape, load) for escape, load in zip(report.escapes, vectors, strict=True)
        )
        self._load_spectrum = spectrum
        self._load_landscape = landscape

    def __repr__(self) -> str:
        return f"AnalysisReport(verdict={self.verdict.value!r}, loss={self.loss:.6g}, {self.summary!r})"

    @property
    def job(self) -> str | None:
        return self.report.job

    @property
    def verdict(self) -> Verdict:
        return self.report.verdict

    @property
    def summary(self) -> str:
        return self.report.summary

    @property
    def num_parameters(self) -> int:
        return self.report.num_parameters

    @property
    def num_examples(self) -> int:
        return self.report.num_examples

    @property
    def loss(self) -> float:
        return self.report.loss

    @property
    def advice(self) -> Advice:
        return self.report.advice

    @property
    def criticality(self) -> Criticality:
        return self.report.criticality

    @property
    def inertia(self) -> Inertia:
        return self.report.inertia

    @property
    def minimum_ratio(self) -> Interval:
        return self.report.minimum_ratio

    @property
    def lambda_min(self) -> ExtremeEigenvalue:
        return self.report.lambda_min

    @property
    def lambda_max(self) -> ExtremeEigenvalue:
        return self.report.lambda_max

    @property
    def evidence(self) -> Evidence:
        return self.report.evidence

    @property
    def numerics(self) -> Numerics:
        return self.report.numerics

    @property
    def versions(self) -> dict[str, str]:
        return self.report.versions

    @property
    def provenance(self) -> Provenance | None:
        """What was read, where the service knows it; None for an analysis in this process."""
        return self.report.provenance

    @property
    def warnings(self) -> tuple[ReportWarning, ...]:
        return self.report.warnings

    @cached_property
    def spectrum(self) -> Spectrum:
        """All eigenvalues when exact, else Ritz pairs and the density."""
        return self._load_spectrum()

    @cached_property
    def landscape(self) -> Landscape | None:
        """The loss on a plane through θ beside its quadratic model; None if it was not asked for."""
        return self._load_landscape()

    def to_json(self) -> str:
        """The report as JSON, as `GET /v1/jobs/{id}/report` gives it."""
        return self.report.model_dump_json()

    def plot(self) -> Figure:
        """Spectrum, escape curve and landscape in one matplotlib figure.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        from saddlescope.figure import draw  # noqa: PLC0415  only a plot needs it

        return draw(self.report, self.spectrum, self.landscape)

    def _repr_html_(self) -> str:
        rows = [
            ("loss", number(self.loss, 6)),
            ("gradient norm", number(self.criticality.gradient_norm, 6)),
            ("(n₋, n₀, n₊)", f"({self.inertia.negative}, {self.inertia.zero}, {self.inertia.positive})"),
            ("λ min, λ max", f"{number(self.lambda_min.estimate, 6)}, {number(self.lambda_max.estimate, 6)}"),
            ("advice", f"{self.advice.action.value}: {self.advice.because}"),
        ]
        cells = "".join(f"<tr><th>{html_escaped(name)}</th><td>{html_escaped(value)}</td></tr>" for name, value in rows)
        return f"<b>{html_escaped(self.verdict.value)}</b><p>{html_escaped(self.summary)}</p><table>{cells}</table>"
