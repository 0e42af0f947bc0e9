"""A loss is named by data: a list of layers, a torch.export archive or a closed-form expression."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from saddlescope.contract import limits
from saddlescope.contract.layers import Layers
from saddlescope.contract.sources import ArtifactSource
from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import Reduction

Weights = Annotated[tuple[float, ...], Field(min_length=1, max_length=limits.MAX_INLINE_NUMBERS)]


class MSE(Closed):
    type: Literal["mse"]
    reduction: Reduction = Reduction.MEAN


class L1(Closed):
    type: Literal["l1"]
    reduction: Reduction = Reduction.MEAN


class Huber(Closed):
    type: Literal["huber"]
    reduction: Reduction = Reduction.MEAN
    delta: float = Field(default=1.0, gt=0)


class CrossEntropy(Closed):
    type: Literal["cross_entropy"]
    reduction: Reduction = Reduction.MEAN
    weight: Weights | None = None
    ignore_index: int = -100
    label_smoothing: float = Field(default=0.0, ge=0, le=1)


class BCEWithLogits(Closed):
    type: Literal["bce_with_logits"]
    reduction: Reduction = Reduction.MEAN
    weight: Weights | None = None
    pos_weight: Weights | None = None


class NLL(Closed):
    type: Literal["nll"]
    reduction: Reduction = Reduction.MEAN
    weight: Weights | None = None
    ignore_index: int = -100


Criterion = Annotated[MSE | L1 | Huber | CrossEntropy | BCEWithLogits | NLL, Field(discriminator="type")]


class NetworkLoss(Closed):
    """criterion(network(inputs), targets) + ½·weight_decay·‖θ‖², the network in eval mode."""

    kind: Literal["network"]
    layers: Layers
    criterion: Criterion
    weight_decay: float = Field(default=0.0, ge=0)


class ProgramLoss(Closed):
    """A torch.export archive whose forward maps the data tensors to the scalar loss of the batch."""

    kind: Literal["program"]
    program: ArtifactSource
    reduction: Reduction = Reduction.MEAN
    weight_decay: float = Field(default=0.0, ge=0)


class ExpressionLoss(Closed):
    """A closed form over the names of the checkpoint and the data; the grammar is in `expressions`."""

    kind: Literal["expression"]
    expression: str = Field(min_length=1, max_length=limits.MAX_EXPRESSION_CHARS)
    reduction: Reduction = Reduction.MEAN
    weight_decay: float = Field(default=0.0, ge=0)


LossSpec = Annotated[NetworkLoss | ProgramLoss | ExpressionLoss, Field(discriminator="kind")]
