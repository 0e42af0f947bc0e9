"""Shares and angles of directions that are read in blocks, against NumPy on whole arrays."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from service import directions
from service.directions import alignments, tensor_shares

GENERATOR = np.random.default_rng(0)


def file_of(tensors: dict[str, np.ndarray], *, dtype: str = "F64") -> io.BytesIO:
    """A safetensors file."""
    header, body = {"__metadata__": {"step": "0.5"}}, b""
    for name, values in tensors.items():
        raw = encoded(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(header).encode()
    return io.BytesIO(len(head).to_bytes(8, "little") + head + body)


def encoded(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


@pytest.mark.parametrize(("dtype", "precision"), [("F64", 1e-14), ("F32", 1e-6), ("F16", 1e-2), ("BF16", 3e-2)])
def test_shares_are_squared_norms_of_the_tensors(dtype: str, precision: float) -> None:
    many = 2 * directions._BLOCK_NUMBERS + 3
    tensors = {"a": GENERATOR.normal(size=many) / 500, "b.c": GENERATOR.normal(size=(3, 4)), "zero": np.zeros(2)}
    told = tensor_shares(file_of(tensors, dtype=dtype))
    total = sum(float((values**2).sum()) for values in tensors.values())
    truth = {name: float((values**2).sum()) / total for name, values in tensors.items()}
    assert dict(told) == pytest.approx(truth, rel=precision, abs=1e-9)
    assert [share for _, share in told] == sorted((share for _, share in told), reverse=True)
    assert sum(share for _, share in told) == pytest.approx(1)


def test_angles_are_those_of_the_whole_vectors_whatever_the_order_of_the_names() -> None:
    first, second = ({"a": GENERATOR.normal(size=5), "b": GENERATOR.normal(size=(2, 3))} for _ in range(2))
    vectors = [np.concatenate([one["a"], one["b"].ravel()]) for one in (first, second)]
    truth = abs(vectors[0] @ vectors[1]) / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    turned = {"b": -3 * second["b"], "a": -3 * second["a"]}
    told = alignments([file_of(first), file_of(second), file_of(turned), file_of({"other": first["a"]})])
    assert told[0][1] == told[1][0] == pytest.approx(truth)
    assert told[0][2] == pytest.approx(truth)
    assert told[1][2] == pytest.approx(1)
    assert told[3] == [None, None, None, pytest.approx(1)]


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}rest"])
def test_what_is_no_direction_has_no_shares(content: bytes) -> None:
    assert tensor_shares(io.BytesIO(content)) == []
