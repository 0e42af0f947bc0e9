"""Every reader gives what the stock loader gives, on checkpoints that the stock writers made."""

import io
import json
import tarfile
from collections import OrderedDict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from program_models import CASES
from torch import Tensor, nn

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.readers.checkpoint import read_tensors
from workers.readers.data import read_data

ALL_DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def every_dtype() -> dict[str, Tensor]:
    numbers = torch.arange(-7, 8).reshape(3, 5)
    tensors = {f"of.{name}": numbers.to(dtype) for name, dtype in ALL_DTYPES.items()}
    return tensors | {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "odd": torch.ones(3, dtype=torch.uint8)}


def assert_same(read: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(read) == list(expected) or set(read) == set(expected)
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype, name
        assert read[name].shape == tensor.shape, name
        assert torch.equal(read[name], tensor), name


def test_a_torch_save_state_dict_is_read_as_torch_load_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    torch.save(network().state_dict(), path)
    assert_same(read_tensors(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_pickle_protocol_of_torch_save_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "checkpoint"
    torch.save(network().state_dict(), path, pickle_protocol=protocol)
    assert_same(read_tensors(path), network().state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_nested_state_dict_is_found_and_the_optimizer_ignored(tmp_path: Path, key: str) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    path = tmp_path / "run (3) é.pt"
    torch.save(
        {
            "epoch": 3,
            "best": 0.5,
            "step": torch.tensor(7),
            key: model.state_dict(),
            "rng": torch.get_rng_state(),
            "optimizer": optimizer.state_dict(),
            "note": None,
        },
        path,
    )
    assert_same(read_tensors(path), model.state_dict())


def test_every_dtype_survives_torch_save(tmp_path: Path) -> None:
    torch.save(every_dtype(), tmp_path / "a")
    assert_same(read_tensors(tmp_path / "a"), every_dtype())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["conv_net", "resnet", "vit", "gpt"])
def test_a_network_with_its_optimizer_is_read_as_torch_load_reads_it(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    case = CASES[name]()
    model = case.model
    optimizer = torch.optim.AdamW(model.parameters())
    case.loss(model, case.rows(3)).backward()
    optimizer.step()
    model.to(dtype)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, tmp_path / "a")
    stock = torch.load(tmp_path / "a", weights_only=True)["model"]
    read = read_tensors(tmp_path / "a")
    assert_same(read, stock)
    for one, other in combinations(stock, 2):
        is_tied = stock[one].data_ptr() == stock[other].data_ptr()
        assert (read[one].data_ptr() == read[other].data_ptr()) == is_tied, (one, other)


def test_parameters_and_transposed_views_survive_torch_save(tmp_path: Path) -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    held = OrderedDict(p=nn.Parameter(weight.clone()), t=weight.t(), row=torch.arange(6.0)[2:5])
    torch.save(held, tmp_path / "a")
    assert_same(read_tensors(tmp_path / "a"), {name: tensor.detach() for name, tensor in held.items()})


def test_tied_names_of_a_torch_save_share_memory(tmp_path: Path) -> None:
    embedding = torch.randn(4, 3)
    torch.save({"wte": embedding, "head": embedding, "other": embedding.clone()}, tmp_path / "a")
    read = read_tensors(tmp_path / "a")
    assert read["wte"].data_ptr() == read["head"].data_ptr() != read["other"].data_ptr()


def test_safetensors_are_read_as_the_stock_loader_reads_them(tmp_path: Path) -> None:
    safetensors.torch.save_file(every_dtype(), tmp_path / "a", metadata={"format": "pt"})
    assert_same(read_tensors(tmp_path / "a"), safetensors.torch.load_file(tmp_path / "a"))


def test_npz_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    arrays = {
        "0.weight": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
        "half": np.float16([1.5, -2]),
        "scalar": np.float32(3),
        "bool": np.array([True, False]),
        "u16": np.array([1, 65535], dtype=np.uint16),
        "empty": np.empty((0, 4), dtype=np.int64),
        "vector": np.arange(3, dtype=np.uint32),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    read = read_tensors(tmp_path / "a.npz")
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name].numpy(), array)
        assert read[name].is_floating_point() == (array.dtype.kind == "f")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_sharded_set_in_a_tar_is_read_as_its_shards(tmp_path: Path, form: int) -> None:
    shards = {
        "model-00001-of-00002.safetensors": {"a": torch.ones(3)},
        "model-00002-of-00002.safetensors": {"b": torch.zeros(2, 2)},
    }
    index = {
        "metadata": {"total_size": 28},
        "weight_map": {name: shard for shard, held in shards.items() for name in held},
    }
    files = {shard: safetensors.torch.save(held) for shard, held in shards.items()}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    folder = "./" + "x" * (90 if form == tarfile.USTAR_FORMAT else 120)
    with tarfile.open(tmp_path / "set", "w", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mtime = len(content), 1.5
            tar.addfile(member, io.BytesIO(content))
    assert_same(read_tensors(tmp_path / "set"), {"a": torch.ones(3), "b": torch.zeros(2, 2)})


def test_the_file_is_not_changed_by_writing_to_its_tensors(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(3)}, tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    read_tensors(tmp_path / "a")["a"].zero_()
    assert (tmp_path / "a").read_bytes() == before


def test_data_is_read_from_safetensors_and_npz(tmp_path: Path) -> None:
    rows = {"inputs": torch.ones(4, 2), "targets": torch.arange(4)}
    safetensors.torch.save_file(rows, tmp_path / "a")
    np.savez(tmp_path / "b.npz", **{name: tensor.numpy() for name, tensor in rows.items()})
    assert_same(read_data(tmp_path / "a"), rows)
    assert_same(read_data(tmp_path / "b.npz"), rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"inputs": np.ones((3, 1)), "targets": np.ones(4)}, "have 3 and 4 rows"),
        ({"inputs": np.ones((0, 1))}, "no rows"),
        ({"inputs": np.float64(1)}, "single number"),
    ],
)
def test_rows_that_do_not_match_are_refused(tmp_path: Path, rows: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **rows)
    with pytest.raises(JobFault, match=message) as caught:
        read_data(tmp_path / "a.npz")
    assert caught.value.code is FailureCode.DATA_INVALID
