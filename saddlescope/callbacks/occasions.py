"""When to ask: every N steps, or when the loss no longer falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Plateau:
    """The mean loss over `window` steps is less than `rtol` of itself below the mean over the `window` steps before."""

    window: int = 200
    rtol: float = 0.01

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.rtol < 1:
            raise ValueError(f"a plateau needs a window of 1 or more and 0 <= rtol < 1, not {self}")


@final
class Occasions:
    """Sees every loss and tells at a step whether it is time to ask.

    A loss that is a tensor is summed where it is: it is read once a window, since each reading waits for the device.
    """

    def __init__(self, *, every: int | None, plateau: Plateau | None) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every={every}: expected a number of steps, 1 or more")
        self._every = every
        self._plateau = plateau
        self._last_asked = 0
        self._sum: float | Tensor = 0.0
        self._num_losses = 0
        self._mean_before: float | None = None
        self._is_flat = False
        self.last_loss: float | Tensor | None = None

    def saw(self, loss: float | Tensor, *, num_steps: int = 1) -> None:
        """Take in the loss of a step, or a mean over several."""
        value = loss if isinstance(loss, int | float) else loss.detach()
        self.last_loss = value
        if self._plateau is None:
            return
        self._sum = self._sum + num_steps * value
        self._num_losses += num_steps
        if self._num_losses < self._plateau.window:
            return
        mean = float(self._sum) / self._num_losses
        before, self._mean_before = self._mean_before, mean
        self._sum, self._num_losses = 0.0, 0
        # A mean that is no number, before or now, compares as not flat: there is nothing to analyse then.
        self._is_flat = before is not None and before - mean < self._plateau.rtol * abs(before)

    def is_due(self, step: int) -> bool:
        """Whether to ask at this step; once it is, a plateau has to last for another two windows."""
        if self._every is not None and step // self._every > self._last_asked // self._every:
            self._last_asked = step
            return True
        if self._is_flat:
            self._is_flat, self._mean_before = False, None
            return True
        return False
