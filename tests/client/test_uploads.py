from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_arrays
from safetensors.torch import load as load_tensors

from saddlescope.client.uploads import CHUNK_BYTES, prepare
from saddlescope.contract.sources import ArtifactSource, InlineSource


def sent(content: object) -> bytes:
    """The bytes that a service would receive, checked against their name."""
    source, upload = prepare(content, what="checkpoint")
    body = b"".join(upload.body.chunks())
    assert source == ArtifactSource(artifact=f"sha256:{hashlib.sha256(body).hexdigest()}")
    assert upload.body.size == len(body)
    assert b"".join(upload.body.chunks()) == body, "a retry sends the same bytes again"
    return body


def test_a_state_dict_arrives_as_it_was() -> None:
    base = torch.randn(4, 6)
    tensors = {
        "tied": base,
        "twin": base,
        "transposed": base.T,
        "slice": base[1:3, ::2],
        "parameter": torch.nn.Parameter(torch.randn(3, dtype=torch.float64)),
        "half": torch.randn(5).to(torch.bfloat16),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "also_empty": torch.zeros(0),
        "array": np.arange(6.0).reshape(2, 3),
    }
    arrived = load_tensors(sent(tensors))
    assert arrived.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(arrived[name], torch.as_tensor(tensor).detach(), rtol=0, atol=0)


def test_arrays_arrive_as_they_were() -> None:
    arrays = {
        "fortran": np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4))),
        "labels": np.arange(3),
        "big_endian": np.arange(4.0, dtype=">f8"),
        "scalar": np.array(2.5),
        "strided": np.arange(10.0, dtype=np.float32)[::3],
    }
    arrived = load_arrays(sent(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(arrived[name], array)
        assert arrived[name].shape == array.shape


def test_the_same_tensors_have_the_same_name() -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2)}
    assert sent(tensors) == sent({name: tensor.clone() for name, tensor in tensors.items()})


def test_plain_numbers_travel_in_the_request() -> None:
    source, upload = prepare({"w1": 0.0, "w2": [[1, 2.5]]}, what="checkpoint")
    assert source == InlineSource(inline={"w1": 0.0, "w2": [[1, 2.5]]})
    assert upload is None


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_files_and_bytes_arrive_as_they_were(tmp_path, size) -> None:
    content = bytes(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sent(content) == sent(path) == sent(str(path)) == content


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.ones(1), "epoch": 3, "optimizer": {}}, r"'epoch' \(int\), 'optimizer' \(dict\); leave them out"),
        ({"w": torch.eye(2).to_sparse()}, "sparse"),
        ({"w": torch.ones(2, device="meta")}, "without values"),
        ({"w": np.array(["a"])}, "only numbers"),
        ({"w": np.array([object()])}, "only numbers"),
        (7, "expected tensors by name"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(tensors, message) -> None:
    with pytest.raises(TypeError, match=message):
        prepare(tensors, what="checkpoint")


def test_a_missing_file_is_told() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        prepare("nowhere.npz", what="data")
