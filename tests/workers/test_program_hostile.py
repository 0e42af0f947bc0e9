"""Hostile programs end in a precise fault, and run nothing."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from program_archives import FLOAT, Json, described, integer, node, payload, product_then_sum, program, tensor, write
from program_models import LOSS

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.losses.program import program_problem
from workers.programs.operators import TABLE

CHECKPOINT = {"w": torch.tensor([1.0, 2.0, 3.0])}
DATA = {"x": torch.ones(4, 3)}


def fault(archive: Path) -> JobFault:
    with pytest.raises(JobFault) as caught:
        program_problem(LOSS, archive, CHECKPOINT, DATA)
    return caught.value


def value(archive: Path) -> float:
    problem = program_problem(LOSS, archive, CHECKPOINT, DATA).problem
    return float(problem.loss({**problem.constants, **problem.params}, problem.data))


def test_a_program_written_by_hand_runs(tmp_path: Path) -> None:
    assert value(write(tmp_path, program(product_then_sum()))) == 24.0


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (str(self.path), "w")


def ways_in(marker: Path) -> dict[str, tuple[Json, Json | None, dict[str, bytes]]]:
    """The eight ways into torch.export.load: model, weights configuration, further members."""
    evil, code = pickle.dumps(Touch(marker)), f"open({str(marker)!r}, 'w')"
    plain = program(product_then_sum())
    guarded = program(product_then_sum()) | {"guards_code": [f"{code} is not None"]}
    symbolic = program(product_then_sum(), sizes=(code, 3))
    spec = json.dumps([1, {"type": "antigravity.Evil", "context": "[]", "children_spec": []}])
    renamed = json.loads(json.dumps(plain).replace('"x"', json.dumps(f"x): pass\n{code}\ndef g(y")))
    opaque = json.dumps({"config": {"c": payload("opaque_obj_0", pickled=True)}}).encode()
    return {
        "pickled weights": (plain, {"b": payload("weight_0", pickled=True)}, {"data/weights/weight_0": evil}),
        "legacy weights": (plain, None, {"data/weights/model.pt": evil}),
        "sample inputs": (plain, None, {"data/sample_inputs/model.pt": evil}),
        "opaque constants": (
            plain, None, {"data/constants/model_constants_config.json": opaque, "data/constants/opaque_obj_0": evil},
        ),
        "symbolic expressions": (symbolic, None, {}),
        "input names": (renamed, None, {}),
        "guards": (guarded, None, {}),
        "tree specification": (program(product_then_sum(), in_spec=spec), None, {}),
        "AOTInductor library": (plain, None, {"data/aotinductor/model/evil.so": b"\x7fELF"}),
    }  # fmt: skip


@pytest.mark.parametrize("way", ways_in(Path("marker")))
def test_no_way_into_the_stock_loader_runs_anything(tmp_path: Path, way: str) -> None:
    marker = tmp_path / "marker"
    model, weights, members = ways_in(marker)[way]
    archive = write(tmp_path, model, weights=weights, members=members)
    loaded = set(sys.modules)
    if way == "input names":
        assert fault(archive).code is FailureCode.DATA_INVALID
    elif way == "pickled weights":
        # The program of this one reads its buffer, so that the pickled record is asked for.
        nodes = [
            node("mul.Tensor", {"self": tensor("x"), "other": tensor("b_b")}, [tensor("mul")]),
            *product_then_sum()[1:],
        ]
        assert fault(write(tmp_path, program(nodes), weights=weights, members=members)).code is FailureCode.LOSS_INVALID
    else:
        assert value(archive) == 24.0
    assert not marker.exists()
    assert "antigravity" not in set(sys.modules) - loaded


def test_the_marker_would_have_appeared_in_the_stock_loader(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    model, weights, members = ways_in(marker)["sample inputs"]
    archive = write(tmp_path, model, weights=weights, members=members)
    code = f"import torch\ntry:\n torch.export.load({str(archive)!r})\nexcept BaseException as error:\n print(error)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)
    assert marker.exists()


def after(*nodes: Json, loss: str = "sum") -> Json:
    """y = first node's output … ; the loss is the sum of the value named `y`."""
    return program([*nodes, node("sum.default", {"self": tensor("y")}, [tensor("sum")])], loss=loss)


def on_x(target: str, **more: Json) -> Json:
    return after(node(target, {"self": tensor("x"), **more}, [tensor("y")]))


def chain(count: int, size: int) -> Json:
    sizes: Json = {"as_ints": [size, size]}
    nodes = [node("ones.default", {"size": sizes}, [tensor("m0")])]
    for position in range(count):
        before, result = tensor(f"m{position}"), tensor(f"m{position + 1}")
        nodes.append(node("mm.default", {"self": before, "mat2": before}, [result]))
    nodes.append(node("sum.default", {"self": tensor(f"m{count}")}, [tensor("y")]))
    return after(*nodes)


def batch_norm(training: bool) -> Json:
    arguments: Json = {"input": tensor("x"), "weight": {"as_none": True}, "bias": {"as_none": True}}
    arguments |= {"running_mean": tensor("b_b"), "running_var": tensor("b_b"), "training": {"as_bool": training}}
    arguments |= {"momentum": {"as_float": 0.1}, "eps": {"as_float": 1e-5}, "cudnn_enabled": {"as_bool": False}}
    return after(node("batch_norm.default", arguments, [tensor("y")]))


def dropout(train: bool) -> Json:
    arguments: Json = {"input": tensor("x"), "p": {"as_float": 0.5}, "train": {"as_bool": train}}
    return after(node("dropout.default", arguments, [tensor("y")]))


def growing_size() -> Json:
    """A size squared again and again, which Python would compute for ever."""
    nodes = [node("sym_size.int", {"self": tensor("x"), "dim": integer(0)}, [{"as_sym_int": {"as_name": "n0"}}])]
    for position in range(40):
        operand: Json = {"as_sym_int": {"as_name": f"n{position}"}}
        nodes.append(
            node("_operator.mul", {"a": operand, "b": operand}, [{"as_sym_int": {"as_name": f"n{position + 1}"}}])
        )
    sizes: Json = {"as_sym_ints": [{"as_name": "n40"}]}
    return after(*nodes, node("ones.default", {"size": sizes}, [tensor("y")]))


def writing_buffer() -> Json:
    model = program(product_then_sum())
    signature = model["graph_module"]["signature"]  # type: ignore[call-overload,index]
    signature["output_specs"].append({"buffer_mutation": {"arg": {"name": "mul"}, "buffer_name": "b"}})  # type: ignore[index,call-overload,union-attr]
    return model


def two_outputs() -> Json:
    model = program(product_then_sum())
    outputs = model["graph_module"]["signature"]["output_specs"]  # type: ignore[call-overload,index]
    outputs.append({"user_output": {"arg": tensor("mul")}})  # type: ignore[union-attr]
    return model


MASKED = (
    node("gt.Scalar", {"self": tensor("x"), "other": integer(0)}, [tensor("mask")]),
    node("index.Tensor", {"self": tensor("x"), "indices": {"as_tensors": [{"name": "mask"}]}}, [tensor("y")]),
)
CYCLE = (
    node("neg.default", {"self": tensor("z")}, [tensor("y")]),
    node("neg.default", {"self": tensor("y")}, [tensor("z")]),
)
UNSUPPORTED, INVALID, TOO_MUCH = FailureCode.UNSUPPORTED_OPERATION, FailureCode.LOSS_INVALID, FailureCode.RESOURCE_LIMIT

CASES: dict[str, tuple[Json, FailureCode, str]] = {
    "in place": (on_x("add_.Tensor", other=tensor("x")), UNSUPPORTED, "in place"),
    "in place activation": (on_x("relu_.default"), UNSUPPORTED, "in place"),
    "dropout": (dropout(True), UNSUPPORTED, "model.eval()"),
    "random": (on_x("rand_like.default"), UNSUPPORTED, "random"),
    "bernoulli": (on_x("bernoulli.default"), UNSUPPORTED, "random"),
    "batch statistics": (batch_norm(True), UNSUPPORTED, "model.eval()"),
    "recurrent": (on_x("lstm.input"), UNSUPPORTED, "recurrent"),
    "file": (on_x("from_file.default"), UNSUPPORTED, "files"),
    "uninitialised": (on_x("empty_like.default"), UNSUPPORTED, "memory"),
    "uninitialised new": (on_x("new_empty.default"), UNSUPPORTED, "memory"),
    "strides": (on_x("as_strided.default"), UNSUPPORTED, "memory"),
    "set": (on_x("set_.source_Storage"), UNSUPPORTED, "memory"),
    "resize": (on_x("resize_.default"), UNSUPPORTED, "memory"),
    "value as number": (on_x("_local_scalar_dense.default"), UNSUPPORTED, "depends on values"),
    "value as size": (on_x("nonzero.default"), UNSUPPORTED, "depends on values"),
    "mask as size": (after(*MASKED), UNSUPPORTED, "mask"),
    "higher order": (on_x("torch.ops.higher_order.cond"), UNSUPPORTED, "control flow"),
    "python": (on_x("torch.ops.os.system"), UNSUPPORTED, "not in the table"),
    "builtin": (on_x("_operator.methodcaller"), UNSUPPORTED, "not in the table"),
    "writes a buffer": (writing_buffer(), UNSUPPORTED, "model.eval()"),
    "dtype 200": (on_x("to.dtype", dtype={"as_scalar_type": 200}), INVALID, "'dtype'"),
    "int for a dtype": (on_x("to.dtype", dtype=integer(6)), INVALID, "'dtype'"),
    "text for a number": (on_x("mul.Scalar", other={"as_string": "9"}), INVALID, "'other'"),
    "unknown argument": (on_x("neg.default", out=tensor("x")), INVALID, "schema"),
    "missing argument": (on_x("mul.Tensor"), INVALID, "missing"),
    "tensor for a size": (on_x("narrow.default", dim=tensor("x")), INVALID, "'dim'"),
    "wrong outputs": (after(node("neg.default", {"self": tensor("x")}, [tensor("y"), tensor("z")])), INVALID, "outputs"),
    "defined twice": (after(node("neg.default", {"self": tensor("x")}, [tensor("x")])), INVALID, "twice"),
    "cycle": (after(*CYCLE), INVALID, "cycles"),
    "undefined": (after(node("neg.default", {"self": tensor("nowhere")}, [tensor("y")])), INVALID, "before it is computed"),
    "shapes": (on_x("mm.default", mat2=tensor("x")), INVALID, "node 0"),
    "dimension": (on_x("select.int", dim=integer(7), index=integer(0)), INVALID, "node 0"),
    "negative size": (on_x("reshape.default", shape={"as_ints": [-5]}), INVALID, "node 0"),
    "overflowing size": (after(node("ones.default", {"size": {"as_ints": [2**62, 8]}}, [tensor("y")])), INVALID, "node 0"),
    "growing size": (growing_size(), INVALID, "size"),
    "two outputs": (two_outputs(), INVALID, "2 outputs"),
    "no scalar": (program(product_then_sum(), loss="mul"), INVALID, "scalar"),
    "integer loss": (after(node("gt.Scalar", {"self": tensor("x"), "other": integer(0)}, [tensor("y")])), INVALID, "scalar"),
    "frozen batch": (program(product_then_sum(), sizes=(4, 3)), INVALID, "dynamic first dimension"),
    "schema version": (program(product_then_sum()) | {"schema_version": {"major": 9, "minor": 0}}, INVALID, "version 9.0"),
    "no graph": ({"schema_version": {"major": 8, "minor": 0}}, INVALID, "graph_module"),
    "8 GiB": (after(node("ones.default", {"size": {"as_ints": [2**30]}}, [tensor("y")])), TOO_MUCH, "MiB"),
    "8 GiB expanded": (
        after(node("expand.default", {"self": tensor("p_w"), "size": {"as_ints": [2**30, 3]}}, [tensor("v")]),
              node("exp.default", {"self": tensor("v")}, [tensor("y")])), TOO_MUCH, "MiB",
    ),
    "2,000 products": (chain(2_000, 8192), TOO_MUCH, "MiB"),
    "20,000 products": (chain(20_000, 8192), TOO_MUCH, "nodes"),
    "19,000 products": (chain(19_000, 8192), TOO_MUCH, "MiB"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_graph_ends_in_the_fitting_fault(tmp_path: Path, case: str) -> None:
    model, code, words = CASES[case]
    found = fault(write(tmp_path, model))
    assert found.code is code
    assert words in found.detail
    assert len(found.detail) < 700


def test_operations_are_bounded_where_memory_is_not(tmp_path: Path) -> None:
    """A product of an expanded one: a few bytes, and 2e16 operations."""
    nodes = [
        node("ones.default", {"size": {"as_ints": [1, 1]}}, [tensor("one")]),
        node("expand.default", {"self": tensor("one"), "size": {"as_ints": [64, 2**41]}}, [tensor("a")]),
        node("t.default", {"self": tensor("a")}, [tensor("b")]),
        node("mm.default", {"self": tensor("a"), "mat2": tensor("b")}, [tensor("y")]),
    ]
    found = fault(write(tmp_path, after(*nodes)))
    assert found.code is FailureCode.RESOURCE_LIMIT
    assert "operations" in found.detail


def test_dropout_and_batch_norm_in_eval_mode_are_taken(tmp_path: Path) -> None:
    assert value(write(tmp_path, dropout(False))) == 12.0
    assert value(write(tmp_path, batch_norm(False))) == pytest.approx(12 / 1e-5**0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[" * 100_000, "model.json"),
        (b"\xff\xfe", "model.json"),
        (b"{}", "schema_version"),
        (b" " * (33 * 2**20), "bytes"),
    ],
)
def test_json_that_is_no_program_is_refused(tmp_path: Path, raw: bytes, words: str) -> None:
    found = fault(write(tmp_path, raw))
    assert found.code is FailureCode.LOSS_INVALID
    assert words in found.detail


def test_an_archive_that_is_not_plain_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path, program(product_then_sum())).read_bytes()
    broken = tmp_path / "broken.pt2"
    for content in (b"", b"PK\x03\x04", good[: len(good) // 2], good[:-1], b"TorchScript"):
        broken.write_bytes(content)
        assert fault(broken).code is FailureCode.LOSS_INVALID
    with zipfile.ZipFile(broken, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/models/model.json", b" " * 10**6)
    assert "compressed" in fault(broken).detail
    with zipfile.ZipFile(broken, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/models/model.json", json.dumps(program(product_then_sum())))
        archive.writestr("other/models/model.json", b"{}")
    assert "root" in fault(broken).detail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": [{"as_int": 2**40}]}, "larger than its record"),
        ({"sizes": [{"as_int": 2**62}]}, "impossible"),
        ({"strides": [{"as_int": 2**40}]}, "larger than its record"),
        ({"strides": [{"as_int": 0}]}, "repeats"),
        ({"storage_offset": {"as_int": 1}}, "larger than its record"),
        ({"dtype": 200}, "dtype"),
        ({"sizes": [{"as_expr": {"expr_str": "3"}}]}, "not a number"),
    ],
)
def test_a_stored_tensor_that_lies_is_refused(tmp_path: Path, changes: Json, words: str) -> None:
    entry = payload("weight_0") | {"tensor_meta": described([3], FLOAT) | changes}
    nodes = [
        node("mul.Tensor", {"self": tensor("p_w"), "other": tensor("b_b")}, [tensor("mul")]),
        *product_then_sum()[1:],
    ]
    found = fault(write(tmp_path, program(nodes), weights={"b": entry}))
    assert found.code is FailureCode.LOSS_INVALID
    assert words in found.detail


def test_the_table_holds_only_functional_deterministic_operators_of_fixed_size() -> None:
    written_out = {"torch.ops.aten.index.Tensor", "torch.ops.aten.one_hot.default"}
    for target, operator in TABLE.items():
        assert not operator.schema.is_mutable, target
        name, overload = target.removeprefix("torch.ops.aten.").split(".")
        tags = getattr(getattr(torch.ops.aten, name), overload).tags
        assert torch.Tag.data_dependent_output not in tags, target
        assert torch.Tag.dynamic_output_shape not in tags or target in written_out, target
        if torch.Tag.nondeterministic_seeded in tags:
            assert "dropout" in target or "attention" in target, target


def test_checkpoint_and_data_must_be_those_of_the_program(tmp_path: Path) -> None:
    archive = write(tmp_path, program(product_then_sum()))

    def code(checkpoint: dict[str, torch.Tensor], data: dict[str, torch.Tensor]) -> tuple[FailureCode, str]:
        with pytest.raises(JobFault) as caught:
            program_problem(LOSS, archive, checkpoint, data)
        return caught.value.code, caught.value.detail

    mismatch, data_invalid = FailureCode.PARAMETER_MISMATCH, FailureCode.DATA_INVALID
    assert code({"v": torch.ones(3)}, DATA) == (mismatch, code({"v": torch.ones(3)}, DATA)[1])
    assert "'w' [3] is missing" in code({"v": torch.ones(3)}, DATA)[1]
    assert "'w' is [4] in the checkpoint and [3]" in code({"w": torch.ones(4)}, DATA)[1]
    assert code({"w": torch.ones(3, dtype=torch.int64)}, DATA)[0] is mismatch
    for data in ({}, {"y": DATA["x"]}, {**DATA, "y": DATA["x"]}, {"x": torch.ones(4, 2)}, {"x": torch.ones(4)},
                 {"x": torch.ones(4, 3, dtype=torch.bool)}, {"x": torch.ones(0, 3)}):  # fmt: skip
        assert code(CHECKPOINT, data)[0] is data_invalid
    whole = program_problem(LOSS, archive, CHECKPOINT, {"x": torch.ones(4, 3, dtype=torch.int64)}).problem
    assert whole.data["x"].dtype == torch.float64
    extra = program_problem(LOSS, archive, {**CHECKPOINT, "step": torch.ones(())}, DATA)
    assert "'step'" in extra.warnings[0].detail


def test_an_index_outside_its_range_is_the_fault_of_the_data(tmp_path: Path) -> None:
    picked = node("embedding.default", {"weight": tensor("p_w"), "indices": tensor("i")}, [tensor("y")])
    cast = node("to.dtype", {"self": tensor("x"), "dtype": {"as_scalar_type": 5}}, [tensor("i")])
    widened = node("unsqueeze.default", {"self": tensor("p_w"), "dim": integer(1)}, [tensor("rows")])
    picked["inputs"][0]["arg"] = tensor("rows")  # type: ignore[index,call-overload]
    problem = program_problem(LOSS, write(tmp_path, after(cast, widened, picked)), CHECKPOINT, DATA).problem
    assert float(problem.loss(problem.params, DATA)) == 24.0
    with pytest.raises(JobFault) as caught:
        problem.loss(problem.params, {"x": torch.full((1, 3), 7.0)})
    assert caught.value.code is FailureCode.DATA_INVALID
