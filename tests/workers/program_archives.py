"""Archives written by hand, node by node, so that they can say what torch.export never would."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from pydantic import JsonValue

Json = dict[str, JsonValue]
FLOAT, LONG = 7, 5


def tensor(name: str) -> Json:
    return {"as_tensor": {"name": name}}


def integer(value: int) -> Json:
    return {"as_int": value}


def node(target: str, inputs: Json, outputs: list[Json]) -> Json:
    """A node; aten operators are given by their short name."""
    full = target if target.startswith(("torch.", "_operator.", "math.")) else f"torch.ops.aten.{target}"
    return {
        "target": full,
        "inputs": [{"name": name, "arg": argument, "kind": 1} for name, argument in inputs.items()],
        "outputs": list(outputs),
        "metadata": {"stack_trace": 'File "secret.py", line 1'},
        "is_hop_single_tensor_return": None,
        "name": None,
    }


def described(sizes: list[int | str], dtype: int = FLOAT) -> Json:
    """A TensorMeta; a string is a symbolic size, written as an expression."""
    return {
        "dtype": dtype,
        "sizes": [
            {"as_int": size} if isinstance(size, int) else {"as_expr": {"expr_str": size, "hint": None}}
            for size in sizes
        ],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": 1} for _ in sizes],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def product_then_sum() -> list[Json]:
    """loss = sum(x * w)"""
    return [
        node("mul.Tensor", {"self": tensor("x"), "other": tensor("p_w")}, [tensor("mul")]),
        node("sum.default", {"self": tensor("mul")}, [tensor("loss")]),
    ]


def program(
    nodes: list[Json], *, loss: str = "loss", sizes: tuple[int | str, ...] = ("s0", 3), in_spec: str = ""
) -> Json:
    """A program with parameter w (3,), buffer b (3,) and data x (rows, 3)."""
    return {
        "graph_module": {
            "graph": {
                "inputs": [tensor("p_w"), tensor("b_b"), tensor("x")],
                "outputs": [tensor(loss)],
                "nodes": list(nodes),
                "tensor_values": {"p_w": described([3]), "b_b": described([3]), "x": described(list(sizes))},
                "sym_int_values": {},
                "sym_bool_values": {},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                    {"buffer": {"arg": {"name": "b_b"}, "buffer_name": "b", "persistent": True}},
                    {"user_input": {"arg": tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": tensor(loss)}}],
            },
            "module_call_graph": [
                {
                    "fqn": "",
                    "signature": {
                        "inputs": [],
                        "outputs": [],
                        "in_spec": in_spec,
                        "out_spec": "",
                        "forward_arg_names": ["x"],
                    },
                }
            ],
            "metadata": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["ATEN"],
        "torch_version": "2.13.0",
        "guards_code": [],
    }


def payload(path: str, *, pickled: bool = False) -> Json:
    return {"path_name": path, "is_param": False, "use_pickle": pickled, "tensor_meta": described([3])}


def write(
    folder: Path, model: Json | bytes, *, weights: Json | None = None, members: dict[str, bytes] | None = None
) -> Path:
    """A `.pt2` file with the model's JSON, a buffer of zeros, and further members."""
    path = folder / "loss.pt2"
    contents = {
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        ".data/version": b"6\n",
        "models/model.json": model if isinstance(model, bytes) else json.dumps(model).encode(),
        "data/weights/model_weights_config.json": json.dumps(
            {"config": weights or {"b": payload("weight_0")}}
        ).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "data/weights/weight_0": bytes(12),
        **(members or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(f"archive/{name}", content)
    return path
