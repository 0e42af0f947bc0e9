"""Calls operators of the table with random arguments of their schema's kinds, in locked processes that must not die.

A case is one node between tensors of many shapes and kinds and a scalar loss; it goes the way of an uploaded program: parsed,
bound, rehearsed, evaluated, and differentiated in every way that an analysis does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from program_archives import Json, node, program, tensor
from torch import Tensor

from workers import preload
from workers.faults import JobFault
from workers.programs.binding import Working
from workers.programs.compilation import compile_program
from workers.programs.interpreter import EVALUATION_ERRORS
from workers.programs.metering import META, Budget, dry_run
from workers.programs.operators import TABLE
from workers.programs.signature import read_signature
from workers.programs.wire import parse_program
from workers.protocol import Limits
from workers.sandbox.layers import Confinement, lock
from workers.sandbox.trial import make_cell, prove

SECONDS_A_CASE = 20.0
CASES_A_PROCESS = 2_000
MEMORY_BYTES = 4 * 2**30
BUDGET = Budget(intermediate_bytes=32 * 2**20, flops=10**8)
WEIGHTS = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)

_INTEGERS = (0, 0, 1, 1, 2, 2, 3, 4, 5, 7, -1, -1, -2, -3, 100, 2**31, -(2**31), 2**62, -(2**62))
_REALS = (0.0, 1.0, -1.0, 0.5, 2.0, -0.5, 1e-300, 1e300, "Infinity", "-Infinity", "NaN")
_WORDS = (
    *("mean", "sum", "none", "floor", "trunc", "tanh", "ij", "xy", "same", "valid", "constant", "reflect", "replicate"),
    *("circular", "fro", "nuc", "ij,j->i", "ij,kj->ik", "i,i->", "...i->...", "ij->ji", "", "abc"),
)
_SHAPES = (
    [4, 3],
    [12],
    [1],
    [],
    [2, 2, 3],
    [1, 3, 2, 2],
    [2, 1, 3, 2],
    [1, 1, 1, 3, 4],
    [3, 4],
    [1, 12, 1],
    [0, 3],
    [2, 0],
)


def case(seed: int) -> tuple[str, Json]:
    """The operator and the program of a seed."""
    chance = random.Random(seed)
    target = chance.choice(sorted(TABLE))
    pool = _pool()
    arguments: Json = {}
    for parameter in TABLE[target].schema.arguments:
        kind = str(parameter.real_type)
        if parameter.has_default_value() and chance.random() < 0.5:
            continue
        argument = _argument(kind, chance, list(pool))
        if argument is not None:
            arguments[parameter.name] = argument
    outputs, first = [], None
    for position, returned in enumerate(TABLE[target].schema.returns):
        names = [f"out{position}_{index}" for index in range(chance.choice((1, 2, 2, 3)))]
        if "List" in str(returned.type):
            outputs.append({"as_tensors": [{"name": name} for name in names]})
        else:
            outputs.append(tensor(names[0]))
        first = first or names[0]
    ending = [
        node("to.dtype", {"self": tensor(first or ""), "dtype": {"as_scalar_type": 8}}, [tensor("real")]),
        node("sum.default", {"self": tensor("real")}, [tensor("loss")]),
    ]
    used = {name: pool[name] for name in pool if f'"{name}"' in json.dumps(arguments)}
    nodes = [*_prelude(used), node(target, arguments, outputs), *ending]
    return target, program(nodes)


def _pool() -> Mapping[str, tuple[list[int], str]]:
    """Names of tensors by shape and kind; the real ones depend on the parameters."""
    kinds = ("real", "integer", "truth", "index")
    return {f"{kind}{number}": (shape, kind) for number, shape in enumerate(_SHAPES) for kind in kinds}


def _prelude(pool: Mapping[str, tuple[list[int], str]]) -> list[Json]:
    nodes = [node("repeat.default", {"self": tensor("p_w"), "repeats": {"as_ints": [4]}}, [tensor("twelve")])]
    for name, (shape, kind) in pool.items():
        count = 1
        for extent in shape:
            count *= extent
        start, end = {"as_int": 0}, {"as_int": count}
        cut = node(
            "slice.Tensor",
            {"self": tensor("twelve"), "dim": start, "start": start, "end": end},
            [tensor(f"{name}_cut")],
        )
        real = name if kind == "real" else f"{name}_real"
        nodes += [
            cut,
            node("reshape.default", {"self": tensor(f"{name}_cut"), "shape": {"as_ints": shape}}, [tensor(real)]),
        ]
        if kind == "integer":
            nodes.append(node("to.dtype", {"self": tensor(real), "dtype": {"as_scalar_type": 5}}, [tensor(name)]))
        if kind == "truth":
            nodes.append(node("gt.Scalar", {"self": tensor(real), "other": {"as_int": 0}}, [tensor(name)]))
        if kind == "index":
            zeros = node("zeros_like.default", {"self": tensor(real)}, [tensor(f"{name}_zero")])
            nodes += [
                zeros,
                node("to.dtype", {"self": tensor(f"{name}_zero"), "dtype": {"as_scalar_type": 5}}, [tensor(name)]),
            ]
    return nodes  # fmt: skip


def _argument(kind: str, chance: random.Random, pool: list[str]) -> Json | None:
    """A random argument of the schema's kind, as an archive writes it; None leaves it out."""
    if kind.startswith("Optional["):
        if chance.random() < 0.3:
            return {"as_none": True}
        kind = kind.removeprefix("Optional[").removesuffix("]")

    def some(make: Callable[[], object]) -> list[object]:
        return [make() for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4)))]

    def a_tensor() -> Json:
        # Real tensors most of the time, and of few shapes, so that many cases fit together.
        likely = [name for name in pool if name.startswith("real")]
        return {"name": chance.choice(likely[:8] if chance.random() < 0.7 else pool)}

    makers: Mapping[str, Callable[[], Json]] = {
        "Tensor": lambda: {"as_tensor": a_tensor()},
        "List[Tensor]": lambda: {"as_tensors": some(a_tensor)},
        "List[Optional[Tensor]]": lambda: {"as_tensors": some(a_tensor)},
        "int": lambda: {"as_int": chance.choice(_INTEGERS)},
        "SymInt": lambda: {"as_int": chance.choice(_INTEGERS)},
        "float": lambda: {"as_float": chance.choice(_REALS)},
        "number": lambda: chance.choice(({"as_int": chance.choice(_INTEGERS)}, {"as_float": chance.choice(_REALS)})),
        "bool": lambda: {"as_bool": chance.random() < 0.5},
        "str": lambda: {"as_string": chance.choice(_WORDS)},
        "List[int]": lambda: {"as_ints": some(lambda: chance.choice(_INTEGERS[:12]))},
        "List[float]": lambda: {"as_floats": some(lambda: chance.choice(_REALS[:6]))},
        "ScalarType": lambda: {"as_scalar_type": chance.choice((1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 9, 200))},
    }
    return makers[kind]() if kind in makers else None


def try_case(seed: int) -> tuple[str, str]:
    """The operator, and how far it came: `evaluated`, `differentiated`, or the error."""
    target, model = case(seed)
    try:
        parsed = parse_program(json.dumps(model).encode())
        signature = read_signature(parsed)
        nodes = parsed.graph_module.graph.nodes
        data = {"x": torch.ones(4, 3, dtype=torch.float64)}
        dry_run(compile_program(nodes, signature, Working(torch.float64, META)), {"w": WEIGHTS}, data, BUDGET)
        for dtype in (torch.float32, torch.float64):
            executable = compile_program(nodes, signature, Working(dtype, torch.device("cpu")))
            point, batch = WEIGHTS.to(dtype), {"x": data["x"].to(dtype)}

            def loss(weights: Tensor, run: object = executable, batch: Mapping[str, Tensor] = batch) -> Tensor:
                return run({"w": weights, **batch})  # type: ignore[operator,no-any-return]

            loss(point)
            _differentiate(loss, point)
    except JobFault as fault:
        return target, f"refused: {fault.code}"
    except (*EVALUATION_ERRORS, NotImplementedError, MemoryError) as wrong:
        if isinstance(wrong, ImportError | OSError):
            raise
        return target, "not twice differentiable" if "derivative for" in str(wrong) else "error of torch"
    return target, "differentiated"


def _differentiate(loss: Callable[[Tensor], Tensor], point: Tensor) -> None:
    leaf = point.clone().requires_grad_()
    value = loss(leaf)
    if not value.requires_grad:
        return
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True, materialize_grads=True)
    direction = torch.ones_like(point)
    if gradient.requires_grad:
        torch.autograd.grad(gradient @ direction, leaf, materialize_grads=True, retain_graph=True)
    torch.func.jvp(torch.func.grad(loss), (point,), (direction,))
    torch.func.vmap(lambda u: torch.func.jvp(torch.func.grad(loss), (point,), (u,))[1])(torch.eye(3, dtype=point.dtype))


@dataclass
class Tally:
    """What came of the cases so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reached: set[str] = field(default_factory=set)
    bad: list[str] = field(default_factory=list)

    def count(self, seed: int, line: str) -> None:
        target, _, outcome = line.partition(" ")
        self.outcomes[outcome] += 1
        if outcome == "differentiated":
            self.reached.add(target)
        if outcome.startswith("FAULT"):
            self.bad.append(f"seed {seed}: {target}: {outcome}")


def run(minutes: float, *, first_seed: int = 0) -> bool:
    """Try cases until the time is over; prints what came of them. True if no process died or hung."""
    layers = prove("cpu").layers
    preload.warm_up("cpu")
    end = time.monotonic() + 60 * minutes
    seed, tally = first_seed, Tally()
    while time.monotonic() < end:
        seed = _watch(seed, layers, end, tally)
    print(
        f"{seed - first_seed} cases from seed {first_seed} on, "
        f"{len(tally.reached)} of {len(TABLE)} operators differentiated, {len(tally.bad)} died, hung or failed in our code"
    )
    for outcome, count in tally.outcomes.most_common():
        print(f"{count:>9}  {outcome}")
    for line in tally.bad:
        print(line)
    return not tally.bad


def _watch(seed: int, layers: tuple[str, ...], end: float, tally: Tally) -> int:
    """One process, until it has done its cases or died; gives the next seed."""
    reading, writing = os.pipe()
    cell, parent = make_cell("cpu", layers), os.getpid()
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)  # torch's own warnings
        limits = Limits(memory_bytes=MEMORY_BYTES, file_bytes=2**20)
        lock(Confinement(cell=cell, limits=limits, parent=parent, descriptors=frozenset({writing})))
        _try_all(seed, writing, end)
    os.close(writing)
    os.close(cell.root)
    rest = b""
    while select.select([reading], [], [], SECONDS_A_CASE)[0]:
        chunk = os.read(reading, 2**16)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            tally.count(seed, line.decode())
            seed += 1
    else:
        os.kill(child, signal.SIGKILL)  # silent for too long
    _, status = os.waitpid(child, 0)
    os.close(reading)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return seed
    how = "hung" if code == -signal.SIGKILL else f"died of {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    tally.bad.append(f"seed {seed}: {case(seed)[0]} {how}")
    return seed + 1


def _try_all(seed: int, writing: int, end: float) -> NoReturn:
    try:
        for current in range(seed, seed + CASES_A_PROCESS):
            if time.monotonic() > end:
                break
            try:
                target, outcome = try_case(current)
            except Exception as wrong:  # noqa: BLE001 - what no one expects is what is looked for
                target, outcome = case(current)[0], f"FAULT {type(wrong).__name__}: {str(wrong)[:200]!r}"
            os.write(writing, f"{target} {outcome}\n".encode())
        os._exit(0)
    finally:
        os._exit(1)


def show(seed: int) -> None:
    target, model = case(seed)
    nodes = model["graph_module"]["graph"]["nodes"]  # type: ignore[index,call-overload]
    print(json.dumps(next(entry for entry in nodes if entry["target"] == target), indent=1))
    print(try_case(seed))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz operators", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="the first case; every case is a seed of its own")
    parser.add_argument(
        "--only", action="store_true", help="run the one case of the seed, here and unlocked, and show it"
    )
    options = parser.parse_args(arguments)
    if options.only:
        show(options.seed)
        return 0
    return 0 if run(options.minutes, first_seed=options.seed) else 1
