"""Callbacks that watch a training run: they ask on a plateau or every N steps, and act on the verdict if told to.

    callback = saddlescope.callbacks.PlainCallback(model, optimizer, loss=program, data=data, run="mlp-7")
    for batch in loader:
        callback.step(train_on(batch))

On the training thread there is a copy of the parameters now and then and nothing else: writing, sending, waiting and
reading happen on a thread of their own. Whatever goes wrong is logged, and training goes on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saddlescope.callbacks.actions import Escape, LowerLearningRate, Training
    from saddlescope.callbacks.answers import Answer
    from saddlescope.callbacks.huggingface import HuggingFaceCallback
    from saddlescope.callbacks.lightning import LightningCallback
    from saddlescope.callbacks.occasions import Plateau
    from saddlescope.callbacks.plain import PlainCallback

__all__ = [
    "Answer",
    "Escape",
    "HuggingFaceCallback",
    "LightningCallback",
    "LowerLearningRate",
    "PlainCallback",
    "Plateau",
    "Training",
]

_HOMES = {
    "Answer": "answers",
    "Escape": "actions",
    "HuggingFaceCallback": "huggingface",
    "LightningCallback": "lightning",
    "LowerLearningRate": "actions",
    "PlainCallback": "plain",
    "Plateau": "occasions",
    "Training": "actions",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'saddlescope.callbacks' has no attribute {name!r}")
    value: object = getattr(import_module(f"saddlescope.callbacks.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
