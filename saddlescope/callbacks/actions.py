"""What to do on a verdict: applied on the thread that trains, between two steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from saddlescope.callbacks.answers import Answer
from saddlescope.callbacks.boundary import log
from saddlescope.contract.vocabulary import Action, Verdict
from saddlescope.results import EscapeDirection

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Optimizer(Protocol):
    """What is used of an optimizer."""

    @property
    def param_groups(self) -> Sequence[dict[str, object]]: ...


@dataclass(frozen=True)
class Training:
    """The training run at a step boundary, as an action may change it."""

    model: Module
    optimizers: tuple[Optimizer, ...]
    schedulers: tuple[object, ...]
    step: int
    is_at_snapshot: Callable[[], bool]
    """Whether the model's tensors are still exactly those that the answer is about."""


React: TypeAlias = Callable[[Answer, Training], None]
OnVerdict: TypeAlias = "Literal['log', 'lower_lr', 'escape'] | React"


@dataclass(frozen=True)
class LowerLearningRate:
    """At a minimum, multiply every learning rate by `factor`: what is left to gain there is what the noise of steps takes."""

    factor: float = 0.5

    def __call__(self, answer: Answer, training: Training) -> None:
        minimum = answer.verdict in (Verdict.LOCAL_MINIMUM, Verdict.FLAT_MINIMUM)
        if not minimum or answer.report.advice.action is not Action.STOP:
            return
        for group in (group for optimizer in training.optimizers for group in optimizer.param_groups):
            for name in ("lr", "initial_lr"):
                rate = group.get(name)
                if isinstance(rate, int | float):
                    group[name] = rate * self.factor
                elif name in group and hasattr(rate, "mul_"):  # a rate that lives on the device
                    rate.mul_(self.factor)
        for scheduler in training.schedulers:
            # A scheduler sets the rate anew from its base at every step.
            rates = getattr(scheduler, "base_lrs", None)
            if isinstance(rates, list):
                rates[:] = [rate * self.factor for rate in rates]
        log.info("step %d: %s; learning rates times %g", training.step, answer.verdict.value, self.factor)


@dataclass(frozen=True)
class Escape:
    """Where the service advises it, step out along the verified direction u.

    From the very checkpoint that was analysed, the step is the one that was measured. Training has usually gone on since;
    then `rebase`, a closure that gives the loss here and now as a number, is asked before and after: ±step·u and ±½ step·u
    are tried, the lowest is kept, and all is undone if none is lower. Without `rebase`, nothing is done then.
    """

    rebase: Callable[[], float] | None = None

    def __call__(self, answer: Answer, training: Training) -> None:
        if answer.report.advice.action is not Action.ESCAPE or not answer.report.escapes:
            return
        way = answer.report.escapes[0]  # the best, and verified, or it would not be advised
        if not way.verified:
            return
        if training.is_at_snapshot():
            loss = way.apply_(training.model)
            log.info("step %d: escaped; loss %.6g -> %.6g", training.step, way.loss_before, loss)
        elif self.rebase is None:
            log.info(
                "step %d: %s lies behind by %d steps; no escape, since no rebase was given to measure it here",
                *(training.step, answer.job, training.step - answer.step),
            )
        else:
            before, after = rebased(way, training.model, self.rebase)
            if after < before:
                log.info("step %d: escaped from here; loss %.6g -> %.6g", training.step, before, after)
            else:
                log.info("step %d: the way out of step %d leads nowhere from here", training.step, answer.step)


def rebased(way: EscapeDirection, model: Module, measure: Callable[[], float]) -> tuple[float, float]:
    """Take the best of four steps along u from where the model is now; the loss before and after.

    Unless one of them lowers the loss, and also if `measure` raises, the model is left as it was, bit for bit.
    """
    tensors = model.state_dict()
    start = {name: tensors[name].clone() for name in way.vector if name in tensors}
    before = best = float(measure())
    best_step = 0.0
    try:
        for step in (way.step, -way.step, way.step / 2, -way.step / 2):
            _with_step(way, step).apply_(model)
            loss = float(measure())
            if loss < best:
                best, best_step = loss, step
            _restore(tensors, start)
    finally:
        _restore(tensors, start)
    if best_step:
        _with_step(way, best_step).apply_(model)
    return before, best


def _with_step(way: EscapeDirection, step: float) -> EscapeDirection:
    return EscapeDirection(way.escape.model_copy(update={"step": step}), lambda: way.vector)


def _restore(tensors: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    for name, tensor in start.items():
        tensors[name].detach().copy_(tensor)


def only_log(answer: Answer, training: Training) -> None:
    """Nothing: every answer is logged."""


def reaction(on_verdict: OnVerdict, rebase: Callable[[], float] | None) -> React:
    """Raises: ValueError if the word is none of the three."""
    if callable(on_verdict):
        return on_verdict
    words: dict[str, React] = {"log": only_log, "lower_lr": LowerLearningRate(), "escape": Escape(rebase)}
    if on_verdict not in words:
        raise ValueError(f"on_verdict={on_verdict!r}: expected {', '.join(map(repr, words))} or a callable")
    return words[on_verdict]
