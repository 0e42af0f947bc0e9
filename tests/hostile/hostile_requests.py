"""Requests that mean harm or are merely wrong, and how each ends: refused at once, or as a failed job."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hostile_checkpoints import hostile
from hostile_encodings import encodings
from program_archives import Json, node, product_then_sum, program, tensor, write
from safetensors.torch import save
from test_program_hostile import CASES as GRAPHS
from test_program_hostile import ways_in
from test_program_hostile_jobs import NOT_SMOOTH

from tests.hostile.hostile_archives import distributed, references, shards

SUCCEEDED = "succeeded"
REFUSED = "422 request_invalid"
SQUARE = {"kind": "expression", "expression": "sum(a * a)"}
PART = {"part": "file"}


@dataclass(frozen=True, repr=False)  # megabytes
class Case:
    """A request, the file that it names as the part `file`, and every word that it may end in.

    A word is the status and code of a refusal, the code of a failed job, or `succeeded` where the harm is never looked at.
    """

    request: Mapping[str, object] | bytes
    ends: tuple[str, ...]
    file: bytes | None = None


def checkpoints(marked: Path) -> dict[str, Case]:
    files = {f"checkpoint: {name}": content for name, (content, _) in hostile(marked).items()}
    files |= {f"encoding: {name}": content for name, (content, _) in encodings(marked).items()}
    refused = {
        name: Case({"checkpoint": PART, "loss": SQUARE}, ("checkpoint_invalid", "422 artifact_empty"), content)
        for name, content in files.items()
    }
    nan, infinite = torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("inf")])
    mismatches = {
        "another architecture": {"1.weight": torch.ones(3, 2)},
        "another shape": {"0.weight": torch.ones(2, 3)},
        "a weight too few": {"0.bias": torch.ones(1)},
        "integer weights": {"0.weight": torch.ones(1, 1, dtype=torch.int64)},
        "empty weights": {"0.weight": torch.ones(0, 1)},
        "weights without dimensions": {"0.weight": torch.tensor(1.0)},
    }
    return refused | {
        "checkpoint: NaN weights": Case({"checkpoint": PART, "loss": SQUARE}, ("checkpoint_invalid",), save({"a": nan})),
        "checkpoint: infinite weights": Case(
            {"checkpoint": PART, "loss": SQUARE}, ("checkpoint_invalid",), save({"a": infinite})
        ),
        **{
            f"checkpoint: {name}": Case(
                {"checkpoint": PART, "loss": LINEAR, "data": ROW}, ("parameter_mismatch",), save(weights)
            )
            for name, weights in mismatches.items()
        },
        "checkpoint: an unknown artifact": Case(
            {"checkpoint": {"artifact": f"sha256:{'0' * 64}"}, "loss": SQUARE}, ("422 artifact_not_found", REFUSED)
        ),
        "checkpoint: integers alone": Case(
            {"checkpoint": PART, "loss": SQUARE}, ("loss_invalid",), save({"a": torch.ones(2, dtype=torch.int64)})
        ),
        "checkpoint: empty tensors alone": Case(
            {"checkpoint": PART, "loss": SQUARE}, ("not_differentiable",), save({"a": torch.ones(0, 3)})
        ),
        "checkpoint: 11,000 numbers inline": Case(
            {"checkpoint": {"inline": {"a": [0.0] * 11_000}}, "loss": SQUARE}, (REFUSED,)
        ),
        "checkpoint: ragged lists inline": Case(
            {"checkpoint": {"inline": {"a": [[0.0], [0.0, 1.0]]}}, "loss": SQUARE}, (REFUSED,)
        ),
        "checkpoint: an integer of 300 digits inline": Case(
            b'{"checkpoint":{"inline":{"a":' + b"9" * 300 + b'}},"loss":' + json.dumps(SQUARE).encode() + b"}",
            ("422 json_invalid",),
        ),
    }  # fmt: skip


def archives() -> dict[str, Case]:
    files = {f"shards: {name}": content for name, content in shards().items()}
    files |= {f"distributed: {name}": content for name, content in distributed().items()}
    return {
        name: Case({"checkpoint": PART, "loss": SQUARE}, ("checkpoint_invalid",), content)
        for name, content in files.items()
    }


def readable(folder: Path) -> Path:
    """The folder in which requests may name checkpoints by path."""
    return folder / "readable"


def by_reference(folder: Path) -> dict[str, Case]:
    def case(path: str, *ends: str) -> Case:
        return Case({"checkpoint": {"path": path}, "loss": SQUARE}, ends)

    root = readable(folder)
    outside = {"the root itself": str(root), "climbing": f"{root}/../secret", "a file of the system": "/etc/passwd"}
    return {
        f"reference: {name}": case(path, "checkpoint_invalid") for name, path in references(root).items()
    } | {
        f"reference: {name}": case(path, REFUSED, "422 reference_not_allowed", "checkpoint_invalid")
        for name, path in outside.items()
    } | {
        "reference: a bucket": Case({"checkpoint": {"s3": "s3://bucket/key"}, "loss": SQUARE}, ("422 references_disabled",)),
        "reference: the machine's own address": Case(
            {"checkpoint": {"s3": "s3://169.254.169.254/latest/meta-data"}, "loss": SQUARE}, ("422 references_disabled",)
        ),
    }  # fmt: skip


LINEAR = {
    "kind": "network",
    "layers": [{"type": "linear", "in_features": 1, "out_features": 1, "bias": False}],
    "criterion": {"type": "mse"},
}
ROW = {"inline": {"inputs": [[1.0]], "targets": [[1.0]]}}
WEIGHT = {"inline": {"0.weight": [[1.0]]}}
POINT = {"inline": {"a": [1.0, 2.0]}}


def of_layers(*layers: Mapping[str, object], ends: tuple[str, ...] = (REFUSED,), **more: object) -> Case:
    loss = LINEAR | {"layers": list(layers)} | more
    return Case({"checkpoint": WEIGHT, "loss": loss, "data": ROW}, ends)


def nested(depth: int) -> Mapping[str, object]:
    layer: Mapping[str, object] = {"type": "relu"}
    for _ in range(depth):
        layer = {"type": "residual", "layers": [layer]}
    return layer


def written(expression: str, *ends: str) -> Case:
    return Case({"checkpoint": POINT, "loss": SQUARE | {"expression": expression}}, ends or ("422 loss_invalid",))


def losses() -> dict[str, Case]:
    million = b'{"type":"relu"},' * 1_000_000
    before, after = json.dumps(LINEAR | {"layers": ["?"]}).encode().split(b'"?"')
    wide = {"type": "linear", "in_features": 1, "out_features": 2**31 - 1, "bias": False}
    unknown = b'{"checkpoint":{"inline":{"a":1}},"loss":' + json.dumps(SQUARE).encode()
    unknown += b"".join(b',"%d":0' % number for number in range(1_000_000)) + b"}"
    return {
        "loss: unknown layer": of_layers({"type": "attention"}),
        "loss: a layer's unknown field": of_layers({"type": "relu", "__class__": "os.system"}),
        "loss: a layer with a class": of_layers({"type": "relu", "forward": {"__reduce__": "os.system"}}),
        "loss: 10,001 layers": of_layers(*[{"type": "relu"}] * 10_001),
        "loss: a million layers": Case(
            b'{"checkpoint":{"inline":{"a":1}},"data":{"inline":{"inputs":[1],"targets":[1]}},"loss":'
            + before + million[:-1] + after + b"}", (REFUSED, "422 json_invalid"),
        ),
        "loss: a million unknown fields": Case(unknown, (REFUSED, "422 json_invalid")),
        "loss: no layers": of_layers(),
        "loss: layers that do not chain": of_layers(
            {"type": "linear", "in_features": 1, "out_features": 1, "bias": False},
            {"type": "conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 3, "bias": False},
            ends=("422 parameter_mismatch",),
        ),
        "loss: layers that do not chain, uploaded": Case(
            {
                "checkpoint": PART, "data": ROW,
                "loss": LINEAR | {"layers": [LINEAR["layers"][0], {"type": "linear", "in_features": 3, "out_features": 1}]},  # type: ignore[index]
            },
            ("loss_invalid",),
            save({"0.weight": torch.ones(1, 1), "1.weight": torch.ones(1, 3), "1.bias": torch.ones(1)}),
        ),
        "loss: 2^31 features": of_layers(wide, ends=("422 parameter_mismatch",)),
        "loss: 2^40 features": of_layers({"type": "linear", "in_features": 1, "out_features": 2**40}),
        "loss: 1000 lists in one another": Case(b"[" * 1_000 + b"]" * 1_000, ("422 json_invalid",)),
        "loss: 20 residuals in one another": of_layers(nested(20), ends=("422 loss_invalid",)),
        "loss: a negative size": of_layers({"type": "linear", "in_features": -1, "out_features": 1}),
        "loss: a truth as a size": of_layers({"type": "linear", "in_features": True, "out_features": 1}),
        "loss: NaN": Case(b'{"loss": {"weight_decay": NaN}}', ("422 json_invalid",)),
        "loss: infinite decay": Case(b'{"loss": {"weight_decay": 1e999}}', ("422 json_invalid",)),
        "loss: a key twice": Case(b'{"loss": {}, "loss": {}}', ("422 json_invalid",)),
        "loss: the class of an object": Case(
            {"checkpoint": POINT, "loss": SQUARE | {"__class__": "os.system"}}, (REFUSED,)
        ),
        "loss: two kinds at once": Case(
            {"checkpoint": POINT, "loss": SQUARE | {"layers": [{"type": "relu"}]}}, (REFUSED,)
        ),
        "expression: import": written("__import__('os').system('touch marker')"),
        "expression: class": written("a.__class__.__bases__"),
        "expression: lambda": written("(lambda: a)()"),
        "expression: comprehension": written("sum([x for x in a])"),
        "expression: format": written("f'{a}'"),
        "expression: 9**9**9**9": written("9**9**9**9 * sum(a)", "non_finite_loss", "loss_invalid"),
        "expression: 2**a of 1e300": written("sum(1e300 ** (a * 1e300))", "non_finite_loss", "loss_invalid"),
        "expression: 500 parentheses": written("(" * 500 + "a" + ")" * 500),
        "expression: 5000 signs": written("-" * 5_000 + "a"),
        "expression: 5000 indices": written("a" + "[0]" * 3_000),
        "expression: 3000 exponents": written("a" + "**2" * 3_000),
        "expression: 11,000 characters": written("a" * 11_000, REFUSED),
        "expression: 2000 products of outer products": written(
            "sum(" + " * ".join(["transpose(a) @ a"] * 500) + ")", "loss_invalid", "non_finite_loss"
        ),
        "expression: an index past the end": written("a[7]", "loss_invalid"),
        "expression: an index of 10^18": written("a[99999999999999999]", "loss_invalid"),
        "expression: no scalar": written("a * a", "loss_invalid"),
        "expression: no parameter": written("1 + 1", "loss_invalid", "not_differentiable", "parameter_mismatch"),
        "expression: an unknown name": written("sum(b)", "loss_invalid", "parameter_mismatch"),
        "expression: a name in Greek": written("sum(θ)"),
        "expression: log of a negative number": written("log(0 - sum(a))", "non_finite_loss", "loss_invalid"),
        "expression: division by zero": written("sum(a) / 0", "non_finite_loss", "loss_invalid"),
    }  # fmt: skip


def programs(folder: Path, marked: Path) -> dict[str, Case]:
    """Programs over w (3,) and the rows x (4, 3)."""

    def case(archive: bytes, *ends: str) -> Case:
        loss = {"kind": "program", "program": PART}
        data = {"inline": {"x": [[1.0, 2.0, 3.0]] * 4}}
        return Case({"checkpoint": {"inline": {"w": [1.0, 2.0, 3.0]}}, "loss": loss, "data": data}, ends, archive)

    def of(model: Json | bytes, *ends: str, **parts: object) -> Case:
        return case(write(folder, model, **parts).read_bytes(), *ends)  # type: ignore[arg-type]

    cases = {f"graph: {name}": of(model, code) for name, (model, code, _) in GRAPHS.items()}
    cases |= {f"graph: {name}": of(model, code) for name, (model, code) in NOT_SMOOTH.items()}
    for way, (model, weights, members) in ways_in(marked).items():
        cases[f"program: {way}"] = of(
            model, SUCCEEDED, "loss_invalid", "data_invalid", weights=weights, members=members
        )
    plain = program(product_then_sum())
    good = write(folder, plain).read_bytes()
    numbers: Json = {"as_ints": ["x"] * 2_000_000}  # type: ignore[dict-item]
    many = program([node("ones.default", {"size": numbers}, [tensor("loss")])])
    frozen = program(product_then_sum(), sizes=(4, 3))
    described = program(product_then_sum())
    value = described["graph_module"]["graph"]["tensor_values"]["x"]  # type: ignore[index,call-overload]
    described["graph_module"]["graph"]["tensor_values"] |= {f"v{number}": value for number in range(100_000)}  # type: ignore[index,call-overload]
    fed = program(product_then_sum())
    fed["graph_module"]["signature"]["input_specs"] *= 30_000  # type: ignore[index,call-overload]
    operand: Json = {"name": "self", "arg": tensor("x")}
    empty = b'"tensor_values": {' + b",".join(b'"%x":{}' % number for number in range(2_800_000)) + b"}, "
    hollow = json.dumps(plain | {}).encode().replace(b'"sym_int_values"', empty + b'"sym_int_values"', 1)
    hollow = hollow.replace(b'"tensor_values": {"p_w"', b'"other_values": {"p_w"', 1)
    wordy = node("neg.default", {}, [tensor("loss")]) | {"inputs": [operand] * 1_000}
    return cases | {
        "program: four million empty descriptions": of(hollow, "resource_limit"),
        "program: 500,000 arguments": of(program([wordy] * 500), "resource_limit"),
        "program: cut": case(good[: len(good) // 2], "loss_invalid"),
        "program: a checkpoint": case(save({"w": torch.ones(3)}), "loss_invalid"),
        "program: nothing in it": of(b"{}", "loss_invalid"),
        "program: 100,000 brackets": of(b"[" * 100_000, "loss_invalid"),
        "program: two million wrong numbers": of(many, "loss_invalid"),
        "program: 100,000 described tensors": of(described, "resource_limit"),
        "program: 90,000 inputs": of(fed, "resource_limit"),
        "program: another schema": of(plain | {"schema_version": {"major": 9, "minor": 1}}, "loss_invalid"),
        "program: a frozen batch": of(frozen, "loss_invalid"),
        "program: NaN in JSON": of(json.dumps(plain).replace("20", "NaN").encode(), "loss_invalid"),
    }  # fmt: skip


CLASSES = {
    "kind": "network",
    "layers": [
        {"type": "embedding", "num_embeddings": 4, "embedding_dim": 2},
        {"type": "flatten"},
        {"type": "linear", "in_features": 2, "out_features": 3, "bias": False},
    ],
    "criterion": {"type": "cross_entropy"},
}
TABLES = {"inline": {"0.weight": [[0.1, 0.2]] * 4, "2.weight": [[0.1, 0.2]] * 3}}


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})
    return file.getvalue()


def data() -> dict[str, Case]:
    def words(inputs: list[object], targets: list[object]) -> Case:
        inline = {"inline": {"inputs": inputs, "targets": targets}}
        return Case({"checkpoint": TABLES, "loss": CLASSES, "data": inline}, ("data_invalid", "422 data_invalid"))

    def rows(content: bytes, end: str = "data_invalid") -> Case:
        return Case({"checkpoint": WEIGHT, "loss": LINEAR, "data": PART}, (end,), content)

    return {
        "data: a label past the classes": words([[0], [1]], [0, 3]),
        "data: a negative label": words([[0], [1]], [0, -1]),
        "data: a label of 2^62": words([[0]], [2**62]),
        "data: labels that are no integers": words([[0], [1]], [0.5, 1.0]),
        "data: an index past the vocabulary": words([[4]], [0]),
        "data: a negative index": words([[-1]], [0]),
        "data: indices that are no integers": words([[0.5]], [0]),
        "data: rows that do not match": rows(npz(inputs=np.ones((2, 1)), targets=np.ones((3, 1)))),
        "data: rows that do not match, inline": words([[0], [1]], [0]),
        "data: no rows": rows(npz(inputs=np.ones((0, 1)), targets=np.ones((0, 1)))),
        "data: no rows, inline": words([], []),
        "data: no dimension": rows(npz(inputs=1.0, targets=1.0)),
        "data: NaN": rows(npz(inputs=[[1.0], [float("nan")]], targets=np.ones((2, 1)))),
        "data: infinite": rows(npz(inputs=[[1.0]], targets=[[float("-inf")]])),
        "data: another name": rows(npz(inputs=np.ones((2, 1)), labels=np.ones((2, 1)))),
        "data: another width": rows(npz(inputs=np.ones((2, 5)), targets=np.ones((2, 1))), "loss_invalid"),
        "data: truths": rows(npz(inputs=np.ones((2, 1), dtype=bool), targets=np.ones((2, 1))), SUCCEEDED),
        "data: objects": rows(hostile(Path("marker"))["object array"][0]),
        "data: a deflate bomb": rows(hostile(Path("marker"))["deflate bomb"][0]),
        "data: torch.save": rows(hostile(Path("marker"))["os.system"][0]),
        "data: cut": rows(npz(inputs=np.ones((9, 1)), targets=np.ones((9, 1)))[:-40]),
        "data: none": Case({"checkpoint": WEIGHT, "loss": LINEAR}, ("422 data_invalid",)),
        "data: an unknown artifact": Case(
            {"checkpoint": WEIGHT, "loss": LINEAR, "data": {"artifact": f"sha256:{'f' * 64}"}},
            ("422 artifact_not_found", REFUSED),
        ),
    }  # fmt: skip


def cases(folder: Path, marked: Path) -> dict[str, Case]:
    return checkpoints(marked) | archives() | by_reference(folder) | losses() | programs(folder, marked) | data()
