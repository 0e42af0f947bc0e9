"""A compiled program, run step by step: no name is looked up and no type is checked any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.programs.binding import Literal
from workers.programs.operators import Outcome
from workers.programs.symbols import Scalar

# What an operator raises on arguments that do not fit depends on the operator; torch's shape functions assert, too.
EVALUATION_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Slot:
    """Where a value stands while the program runs."""

    index: int


Item = Literal | Slot


@dataclass(frozen=True)
class Step:
    """One call, with places for the values that were computed before.

    Attributes:
        node: its position in the program.
        target: the operator's name, for messages.
        outputs: slots of the results; None for one that nobody reads.
        finished: slots that no later step reads.
    """

    node: int
    target: str
    call: Callable[..., Outcome | Scalar]
    arguments: tuple[Item, ...]
    slots: tuple[tuple[int, int], ...]
    lists: tuple[tuple[int, tuple[Item, ...]], ...]
    keywords: Mapping[str, Literal | list[Literal]]
    keyword_slots: tuple[tuple[str, int], ...]
    outputs: tuple[int | tuple[int | None, ...] | None, ...]
    finished: tuple[int, ...]


@dataclass(frozen=True)
class Executable:
    """A program at one working dtype and device."""

    steps: tuple[Step, ...]
    inputs: tuple[tuple[int, str], ...]
    num_slots: int
    loss: int

    def __call__(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The loss, from the tensors by qualified name or data name.

        Raises:
            JobFault: `data_invalid`, if an index in the data is out of its range.
        """
        values: list[object] = [None] * self.num_slots
        for slot, name in self.inputs:
            values[slot] = tensors[name]
        step = None
        try:
            for step in self.steps:
                _run(step, values)
        except EVALUATION_ERRORS as wrong:
            if step is not None:
                wrong.add_note(f"at node {step.node} of the program, {step.target}")
                if _is_out_of_range(wrong):
                    raise _outside(step, wrong) from wrong
            raise
        loss = values[self.loss]
        if not isinstance(loss, Tensor):
            raise TypeError("the loss of a program is a tensor")
        return loss


def _run(step: Step, values: list[object]) -> None:
    arguments: list[object] = list(step.arguments)
    for position, slot in step.slots:
        arguments[position] = values[slot]
    for position, items in step.lists:
        arguments[position] = [values[item.index] if isinstance(item, Slot) else item for item in items]
    if step.keyword_slots:
        keywords = {name: values[slot] for name, slot in step.keyword_slots}
        result = step.call(*arguments, **step.keywords, **keywords)
    else:
        result = step.call(*arguments, **step.keywords)
    for place, value in zip(step.outputs, result if isinstance(result, tuple) else (result,), strict=True):
        if isinstance(place, tuple):
            _unpack(place, value, values)
        elif place is not None:
            values[place] = value
    for slot in step.finished:
        values[slot] = None


def _unpack(places: tuple[int | None, ...], entries: object, values: list[object]) -> None:
    if not isinstance(entries, list | tuple) or len(entries) != len(places):
        raise ValueError(f"the operator does not give the {len(places)} tensors that the program reads")
    for place, entry in zip(places, entries, strict=True):
        if place is not None:
            values[place] = entry


def _outside(step: Step, error: Exception) -> JobFault:
    detail = f"the data holds an index that {step.target}, node {step.node} of the program, does not reach: {first_line(error)}"
    return JobFault(FailureCode.DATA_INVALID, detail, "/data")


def _is_out_of_range(error: Exception) -> bool:
    message = str(error)
    is_index = "out of bounds" in message or "out of range" in message
    return isinstance(error, IndexError | RuntimeError) and is_index and "expected to be in range" not in message


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
