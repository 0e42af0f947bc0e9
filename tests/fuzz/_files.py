"""Every reader of uploaded bytes, with genuine files to begin from and the errors that are its own."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from hostile_checkpoints import safetensors_bytes
from program_archives import payload, product_then_sum, program, write
from torch import Tensor, nn

from saddlescope.contract.expressions import ExpressionError, parse, walk
from service.problems import RequestInvalid
from service.requests import parse_body, parse_request
from tests.fuzz._mutation import Parts
from workers.faults import JobFault
from workers.programs.archive import read_archive
from workers.programs.signature import read_signature
from workers.readers.checkpoint import read_tensors
from workers.readers.data import read_data

MAX_BYTES = 2**26


@dataclass(frozen=True)
class Subject:
    """A reader: what it does with bytes, what it may raise, and genuine files as their members."""

    read: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]
    genuine: Callable[[], list[Parts]]
    pack: Callable[[Parts], bytes]


def _file(content: bytes) -> int:
    descriptor = os.memfd_create("upload")
    os.write(descriptor, content)
    return descriptor


def _read_checkpoint(content: bytes) -> None:
    _read_with(read_tensors, content)


def _read_rows(content: bytes) -> None:
    _read_with(read_data, content)


def _read_with(reader: Callable[..., dict[str, Tensor]], content: bytes) -> None:
    file = _file(content)
    try:
        tensors = reader(file, max_bytes=MAX_BYTES)
        # Tied names are one tensor. Unsigned and truth values are widened, to twice and once their size.
        held = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors.values()}
        if sum(held.values()) > 2 * len(content):
            raise AssertionError("the tensors are larger than the file")
        for tensor in tensors.values():
            tensor.double().sum()
    finally:
        os.close(file)


def _read_program(content: bytes) -> None:
    file = _file(content)
    try:
        archive = read_archive(file)
        signature = read_signature(archive.program)
        archive.tied([*archive.weights])
        for name in (*signature.buffers.values(), *signature.constants.values(), *archive.weights, *archive.constants):
            tensor = archive.tensor(name)
            if tensor is not None:
                tensor.double().sum()
    finally:
        os.close(file)


def _read_request(content: bytes) -> None:
    parse_request(parse_body(content))


def _read_expression(content: bytes) -> None:
    tree = parse(content.decode("latin-1"))
    if sum(1 for _ in walk(tree)) > len(content):
        raise AssertionError("the tree is larger than the text")


def _tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {"0.weight": torch.randn(3, 2), "0.bias": torch.zeros(3, dtype=torch.bfloat16), "n": torch.tensor(3)}
    return tensors | {"empty": torch.empty(0, 3), "truth": torch.tensor([True, False]), "tied": tensors["0.weight"]}


def _apart() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _tensors().items()}


@cache
def _torch_saved() -> list[Parts]:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    nested = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "note": None}
    views = OrderedDict(t=torch.arange(12.0).reshape(3, 4).t(), p=nn.Parameter(torch.ones(2)))
    files = []
    for state, protocol in ((_tensors(), 2), (nested, 2), (nested, 4), (views, 3)):
        file = io.BytesIO()
        torch.save(state, file, pickle_protocol=protocol)
        files.append(_members(file.getvalue()))
    return files


@cache
def _arrays() -> list[Parts]:
    rows = {"a": np.ones((2, 3)), "b": np.arange(2, dtype=np.uint16), "c": np.array([True, False])}
    transposed = {"inputs": np.asfortranarray(np.ones((2, 3), dtype=np.float32)), "targets": np.arange(2)}
    files = []
    for arrays in (rows, transposed):
        file = io.BytesIO()
        np.savez(file, **arrays)
        files.append(_members(file.getvalue()))
    return files


@cache
def _safetensors() -> list[Parts]:
    files = []
    for state in (_apart(), {"inputs": torch.ones(2, 3), "targets": torch.arange(2)}):
        content = safetensors.torch.save(state, metadata={"format": "pt"})
        length = 8 + int.from_bytes(content[:8], "little")
        files.append([("header", content[8:length]), ("data", content[length:])])
    return files


@cache
def _shards() -> list[Parts]:
    one, other = {"a": torch.ones(3)}, {"b": torch.zeros(2, 2), "c": torch.ones(1)}
    index = {"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}
    shards = {f"{number}.safetensors": safetensors.torch.save(held) for number, held in ((1, one), (2, other))}
    return [[("model.safetensors.index.json", json.dumps(index).encode()), *shards.items()]]


@cache
def _distributed() -> list[Parts]:
    flat = {"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(3)}
    files = []
    for state in (flat, {"model": flat, "optimizer": {"lr": 0.1, "state": {0: {"step": torch.tensor(1.0)}}}}):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it saves in one process, and says so
            dcp.save(state, checkpoint_id=folder)
            files.append([(path.name, path.read_bytes()) for path in sorted(Path(folder).iterdir())])
    return files


@cache
def _programs() -> list[Parts]:
    constants = b'{"config": {"c": ' + json.dumps(payload("tensor_0")).encode() + b"}}"
    members = {"data/constants/model_constants_config.json": constants, "data/constants/tensor_0": bytes(12)}
    with tempfile.TemporaryDirectory() as folder:
        model = program(product_then_sum())
        plain = _members(write(Path(folder), model).read_bytes())
        return [plain, _members(write(Path(folder), model, members=members).read_bytes())]


@cache
def _requests() -> list[Parts]:
    point: dict[str, object] = {"inline": {"w1": 0.0, "w2": [[0.0]]}}
    network = {
        "checkpoint": {"artifact": f"sha256:{'0' * 64}"},
        "loss": {
            "kind": "network",
            "layers": [
                {"type": "conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3], "padding": "same"},
                {"type": "residual", "layers": [{"type": "batch_norm2d", "num_features": 2}, {"type": "gelu"}]},
                {"type": "layer_norm", "normalized_shape": [2, 2], "eps": 1e-5},
                {"type": "flatten"},
                {"type": "linear", "in_features": 8, "out_features": 3},
            ],
            "criterion": {"type": "cross_entropy", "weight": [1.0, 2.0, 3.0], "ignore_index": -100},
        },
        "data": {"inline": {"inputs": [[[[1.0]]]], "targets": [0]}},
        "options": {"batch_size": 2, "seed": 0, "dtype": "float64", "confidence": 0.999, "density": True},
        "run": {"id": "r", "step": 3}, "labels": {"a": "b"}, "metadata": {"c": [1, {"d": None}]}, "priority": 1,
    }  # fmt: skip
    expression = {"checkpoint": point, "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"}}
    exported = {"kind": "program", "program": {"artifact": f"sha256:{'0' * 64}"}, "reduction": "sum"}
    by_path = {"checkpoint": {"path": "/runs/a"}, "loss": exported, "callback_url": "https://example.org/"}
    by_key = {"checkpoint": {"s3": "s3://bucket/key"}, "loss": exported, "queue": "gpu", "force": True}
    return [[("request", json.dumps(request).encode())] for request in (network, expression, by_path, by_key)]


@cache
def _expressions() -> list[Parts]:
    texts = (
        b"(1 - w1*w2)**2",
        b"mean((y - x @ w * dot(w, w))**2) + 0.5*norm(a.0.weight, axis=-1)[0:3:2]",
        b"logsumexp(-x[1, :2], 0)/max(tanh(w), 1e-3) - +softplus(trace(transpose(m)))**-2.5",
    )
    return [[("expression", text)] for text in texts]


def _members(archive: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return [(info.filename, opened.read(info)) for info in opened.infolist()]


def _zipped(parts: Parts) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        warnings.simplefilter("ignore")  # a name that stands twice
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _tarred(parts: Parts) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in parts:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue().rstrip(b"\0") + bytes(1024)


def _headed(parts: Parts) -> bytes:
    """The length field is right: what is behind it would not be looked at otherwise."""
    header, *data = [content for _, content in parts]
    return safetensors_bytes(header, b"".join(data))


def _joined(parts: Parts) -> bytes:
    return b"".join(content for _, content in parts)


SUBJECTS = {
    "torch_save": Subject(_read_checkpoint, (JobFault,), _torch_saved, _zipped),
    "npz": Subject(_read_rows, (JobFault,), _arrays, _zipped),
    "safetensors": Subject(_read_checkpoint, (JobFault,), _safetensors, _headed),
    "sharded": Subject(_read_checkpoint, (JobFault,), _shards, _tarred),
    "distributed": Subject(_read_checkpoint, (JobFault,), _distributed, _tarred),
    "program": Subject(_read_program, (JobFault,), _programs, _zipped),
    "request": Subject(_read_request, (RequestInvalid,), _requests, _joined),
    "expression": Subject(_read_expression, (ExpressionError,), _expressions, _joined),
}
