"""From nodes with names to steps with slots; every refusal of a program that its form shows is made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.programs.binding import Bound, Literal, Ref, ScalarRef, TensorRef, Working, bind, bind_scalars
from workers.programs.interpreter import Executable, Item, Slot, Step
from workers.programs.operators import IGNORED, TABLE, Outcome
from workers.programs.refusals import refusal
from workers.programs.signature import Signature
from workers.programs.symbols import Scalar, find_function
from workers.programs.wire import Argument, Node

_OutputRefs = tuple[Ref | tuple[Ref | None, ...] | None, ...]


@dataclass(frozen=True)
class _Call:
    """A node whose operator is known and whose arguments are typed, but still by name."""

    node: int
    target: str
    function: Callable[..., Outcome | Scalar]
    arguments: list[Bound]
    keywords: dict[str, Bound]
    outputs: _OutputRefs

    def reads(self) -> Iterator[Ref]:
        for value in (*self.arguments, *self.keywords.values()):
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, TensorRef | ScalarRef):
                    yield item

    def writes(self) -> Iterator[Ref]:
        for output in self.outputs:
            for ref in output if isinstance(output, tuple) else (output,):
                if ref is not None:
                    yield ref


@dataclass
class _Scope:
    """The values known so far, each a tensor or a scalar, each defined once."""

    slots: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, type[Ref]] = field(default_factory=dict)

    def define(self, ref: Ref) -> None:
        if ref.name in self.slots:
            raise _invalid(f"the program computes {quoted(ref.name)} twice")
        self.slots[ref.name] = len(self.slots)
        self.kinds[ref.name] = type(ref)

    def slot(self, ref: Ref) -> int:
        return self.slots[ref.name]

    def check(self, ref: Ref) -> None:
        if self.kinds.get(ref.name) is not type(ref):
            raise _invalid(
                f"the program reads {quoted(ref.name)} before it is computed, or as another kind of value: "
                "nodes must stand in order, without cycles"
            )


def compile_program(nodes: list[Node], signature: Signature, working: Working) -> Executable:
    """The program at a working dtype and device; nodes that the loss does not need are checked, then dropped.

    Raises:
        JobFault: `unsupported_operation` for an operator outside the table, `loss_invalid` for wrong arguments, for
            values read before they are computed, and for a loss that is no tensor of the program.
    """
    scope = _Scope()
    names = signature.tensors | {name: name for name in signature.data}
    for value in names:
        scope.define(TensorRef(value))
    calls = []
    for position, node in enumerate(nodes):
        if node.target in IGNORED:
            continue
        call = _call(position, node, working)
        for ref in call.reads():
            scope.check(ref)
        for ref in call.writes():
            scope.define(ref)
        calls.append(call)
    loss = TensorRef(signature.loss)
    scope.check(loss)
    needed = _needed(calls, loss)
    read = {ref.name for call in needed for ref in call.reads()} | {loss.name}
    return Executable(
        steps=_steps(needed, scope, loss),
        inputs=tuple((scope.slots[value], name) for value, name in names.items() if value in read),
        num_slots=len(scope.slots),
        loss=scope.slot(loss),
    )


def _call(position: int, node: Node, working: Working) -> _Call:
    operator = TABLE.get(node.target)
    if operator is not None:
        arguments, keywords = bind(node, operator, working)
        outputs = tuple(_tensors_out(output) for output in node.outputs)
        if len(outputs) != len(operator.schema.returns):
            raise _invalid(f"node {position} of the program, {node.target}, does not have the outputs of its operator")
        return _Call(position, node.target, operator.call, arguments, keywords, outputs)
    function = find_function(node.target)
    if function is None:
        raise refusal(node.target, position)
    scalars = tuple(_scalar_out(output) for output in node.outputs)
    return _Call(position, node.target, function, bind_scalars(node), {}, scalars)


def _tensors_out(output: Argument) -> Ref | tuple[Ref | None, ...] | None:
    if output.as_tensor is not None:
        return TensorRef(output.as_tensor.name)
    if output.as_tensors is not None:
        return tuple(TensorRef(tensor.name) for tensor in output.as_tensors)
    if output.as_none or (output.as_optional_tensor is not None and output.as_optional_tensor.as_none):
        return None
    raise _invalid("an operator of the program gives something that is not a tensor")


def _scalar_out(output: Argument) -> Ref:
    for symbolic in (output.as_sym_int, output.as_sym_float, output.as_sym_bool):
        if symbolic is not None and symbolic.as_name is not None:
            return ScalarRef(symbolic.as_name)
    raise _invalid("a computation of a size in the program gives something that is not a number")


def _needed(calls: list[_Call], loss: Ref) -> list[_Call]:
    wanted = {loss.name}
    kept = []
    for call in reversed(calls):
        if any(ref.name in wanted for ref in call.writes()):
            kept.append(call)
            wanted.update(ref.name for ref in call.reads())
    return kept[::-1]


def _steps(calls: list[_Call], scope: _Scope, loss: Ref) -> tuple[Step, ...]:
    last_read = {ref.name: position for position, call in enumerate(calls) for ref in call.reads()}
    last_read[loss.name] = len(calls)
    finished: list[list[int]] = [[] for _ in range(len(calls) + 1)]
    for name, position in last_read.items():
        finished[position].append(scope.slots[name])
    return tuple(_step(call, scope, last_read, tuple(finished[position])) for position, call in enumerate(calls))


def _step(call: _Call, scope: _Scope, read: dict[str, int], finished: tuple[int, ...]) -> Step:
    def item(value: Literal | Ref) -> Item:
        return Slot(scope.slot(value)) if isinstance(value, TensorRef | ScalarRef) else value

    def place(ref: Ref | None) -> int | None:
        return scope.slot(ref) if ref is not None and ref.name in read else None

    slots, lists, literals = [], [], list[Literal]()
    for position, value in enumerate(call.arguments):
        literals.append(None if isinstance(value, list | TensorRef | ScalarRef) else value)
        if isinstance(value, list):
            lists.append((position, tuple(item(entry) for entry in value)))
        elif isinstance(value, TensorRef | ScalarRef):
            slots.append((position, scope.slot(value)))
    keywords: dict[str, Literal | list[Literal]] = {}
    keyword_slots = []
    for name, value in call.keywords.items():
        if isinstance(value, TensorRef | ScalarRef):
            keyword_slots.append((name, scope.slot(value)))
        elif isinstance(value, list):
            keywords[name] = [_literal(entry) for entry in value]
        else:
            keywords[name] = value
    return Step(
        node=call.node,
        target=call.target,
        call=call.function,
        arguments=tuple(literals),
        slots=tuple(slots),
        lists=tuple(lists),
        keywords=keywords,
        keyword_slots=tuple(keyword_slots),
        outputs=tuple(
            tuple(map(place, output)) if isinstance(output, tuple) else place(output) for output in call.outputs
        ),
        finished=finished,
    )


def _literal(value: Literal | Ref) -> Literal:
    if isinstance(value, TensorRef | ScalarRef):
        raise _invalid("an argument that torch fixes at export depends on the data")
    return value


def _invalid(detail: str) -> JobFault:
    return JobFault(FailureCode.LOSS_INVALID, detail, "/loss/program")
