"""For the Trainer of PyTorch Lightning, whose callbacks are known by their methods: nothing is imported of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Unpack, final

from saddlescope.callbacks.actions import Optimizer
from saddlescope.callbacks.observer import Observer, Watching
from saddlescope.client.requests import Loss

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class LightningTrainer(Protocol):
    """What is used of the trainer."""

    @property
    def global_step(self) -> int: ...


@final
class LightningCallback:
    """`Trainer(…, callbacks=[LightningCallback(loss=program, data=data, run="mlp-7", select=lambda module: module.net)])`.

    `select` gives the part of the LightningModule that the loss was exported from. Other arguments as of PlainCallback;
    optimizers and schedulers are the trainer's.
    """

    state_key = "saddlescope"

    def __init__(self, *, loss: Loss, run: str, **watching: Unpack[Watching]) -> None:
        self.observer = Observer(loss, run, **watching)
        self._last_step = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        # Events that this callback has no use for, those of later versions among them.
        if name.startswith("on_") or name in ("setup", "teardown"):
            return _ignore
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def state_dict(self) -> dict[str, object]:
        """Nothing: questions are on disk already."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Nothing."""

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: Module, outputs: object, batch: object, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            self.observer.saw(_as_loss(loss))
        # Batches whose gradients are accumulated are no steps.
        if trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            # Asked for softly: these have moved between versions, and a name that is gone must not end training.
            configs: Sequence[object] = getattr(trainer, "lr_scheduler_configs", ())
            optimizers: Sequence[Optimizer] = getattr(trainer, "optimizers", ())
            schedulers = [getattr(config, "scheduler", None) for config in configs]
            self.observer.at_step(trainer.global_step, pl_module, optimizers=optimizers, schedulers=schedulers)

    def on_train_end(self, trainer: LightningTrainer, pl_module: Module) -> None:
        self.observer.close()


def _as_loss(loss: object) -> Tensor | float:
    from torch import Tensor  # noqa: PLC0415  who trains has torch

    return loss if isinstance(loss, Tensor) else float("nan")


def _ignore(*_: object, **__: object) -> None:
    """Nothing."""
