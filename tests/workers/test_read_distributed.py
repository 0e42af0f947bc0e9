"""Checkpoints of torch.distributed.checkpoint are read as they were saved, or refused by name."""

from __future__ import annotations

import contextlib
import io
import pickle
import socket
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from run_shards import whole
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.readers.checkpoint import read_tensors


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def save(state: dict[str, object], folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it saves in one process, and says so
        dcp.save(state, checkpoint_id=folder)
    return folder


def packed(folder: Path, *, inside: str = "") -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, arcname=f"{inside}{file.name}")
    return path


def assert_same(read: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype, name
        assert torch.equal(read[name], tensor), name


def test_a_state_dict_saved_by_one_process_is_read_as_it_was(tmp_path: Path) -> None:
    state = network().state_dict()
    assert_same(read_tensors(packed(save(state, tmp_path / "step"))), state)
    assert_same(read_tensors(packed(tmp_path / "step", inside="run/step/")), state)


@pytest.mark.parametrize("place", [("model",), ("state_dict",), ("app", "model")])
def test_a_nested_state_dict_is_found_and_the_optimizer_ignored(tmp_path: Path, place: tuple[str, ...]) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    state: dict[str, object] = {
        place[-1]: model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": torch.tensor(3),
    }
    for key in place[:-1]:
        state = {key: state}
    assert_same(read_tensors(packed(save(state, tmp_path / "step"))), model.state_dict())


def test_tensors_sharded_over_two_ranks_are_put_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = Path(__file__).with_name("run_shards.py")
    ranks = [subprocess.Popen([sys.executable, program, tmp_path / "step", str(rank), port]) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    assert len(list((tmp_path / "step").glob("*.distcp"))) == 2
    expected = {name.replace(" ", "_"): tensor for name, tensor in whole().items()}
    assert_same(read_tensors(packed(tmp_path / "step")), expected)


def every_dtype() -> dict[str, Tensor]:
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
    tensors = {str(kind).removeprefix("torch."): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    return tensors | {"bool": torch.tensor([True, False]), "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)}


def test_every_dtype_and_shape_is_read_as_it_was(tmp_path: Path) -> None:
    assert_same(read_tensors(packed(save(dict(every_dtype()), tmp_path / "step"))), every_dtype())


class Runs:
    """What a stock unpickler would execute."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, ("marker", "w")


Change = Callable[[Metadata], object]


def first_chunk(metadata: Metadata) -> tuple[MetadataIndex, _StorageInfo]:
    return next((index, info) for index, info in metadata.storage_data.items() if index.fqn == "0.weight")


def with_info(**changes: object) -> Change:
    def change(metadata: Metadata) -> Metadata:
        index, info = first_chunk(metadata)
        metadata.storage_data[index] = replace(info, **changes)
        return metadata

    return change


def with_chunks(*chunks: tuple[tuple[int, ...], tuple[int, ...]], size: tuple[int, ...] = (3, 4)) -> Change:
    """Several chunks of `0.weight`, each with the bytes of another tensor of the file."""

    def change(metadata: Metadata) -> Metadata:
        entry = metadata.state_dict_metadata["0.weight"]
        entry.size = torch.Size(size)
        entry.chunks = [ChunkStorageMetadata(torch.Size(first), torch.Size(extents)) for first, extents in chunks]
        index, _ = first_chunk(metadata)
        places = list(metadata.storage_data.values())
        del metadata.storage_data[index]
        for (first, _), place in zip(chunks, places, strict=False):
            metadata.storage_data[MetadataIndex("0.weight", torch.Size(first))] = place
        return metadata

    return change


def without_piece(metadata: Metadata) -> Metadata:
    del metadata.storage_data[first_chunk(metadata)[0]]
    return metadata


def other_dtype(metadata: Metadata) -> Metadata:
    metadata.state_dict_metadata["0.weight"].properties.dtype = torch.float64
    return metadata


def unknown_dtype(metadata: Metadata) -> Metadata:
    metadata.state_dict_metadata["0.weight"].properties.dtype = torch.complex64
    return metadata


def same_bytes(metadata: Metadata) -> Metadata:
    for index in metadata.storage_data:
        metadata.storage_data[index] = first_chunk(metadata)[1]
    return metadata


def hostile_name(metadata: Metadata) -> Metadata:
    metadata.state_dict_metadata["../x"] = metadata.state_dict_metadata.pop("0.weight")
    metadata.planner_data = None
    return metadata


def with_path(metadata: Metadata, path: tuple[object, ...]) -> Metadata:
    metadata.planner_data = {"0.weight": path}
    return metadata


def doubled(times: int) -> object:
    """A small pickle whose hash takes 2 to the power of so many steps."""
    value: object = ()
    for _ in range(times):
        value = (value, value)
    return value


HOSTILE: dict[str, tuple[Change, str]] = {
    "a global outside the list": (lambda _: Runs(), "nothing is imported"),
    "a global inside": (lambda metadata: replace(metadata, planner_data={"a": Runs()}), "nothing is imported"),
    "something else": (lambda _: {"a": 1}, "does not describe"),
    "fields of another kind": (lambda metadata: replace(metadata, storage_data=[1]), "does not describe"),
    "offset past the end": (with_info(offset=2**40), "ends too early"),
    "length past the end": (with_info(length=2**40), "same bytes"),
    "a negative offset": (with_info(offset=-1), "does not describe"),
    "a file elsewhere": (with_info(relative_path="../../etc/passwd"), "not in the archive"),
    "compressed": (with_info(transform_descriptors=["zstd"]), "compressed"),
    "a path of lists": (lambda metadata: with_path(metadata, ([], "0.weight")), "does not describe"),
    "a path of doubled tuples": (lambda metadata: with_path(metadata, (doubled(60), "0.weight")), "does not describe"),
    "no piece": (without_piece, "does not say where"),
    "another dtype": (other_dtype, "another dtype or shape"),
    "a dtype that is not taken": (unknown_dtype, "complex64"),
    "the same bytes for all": (same_bytes, "the same bytes"),
    "a shape that lies": (with_chunks(((0, 0), (4, 3)), size=(4, 3)), "another dtype or shape"),
    "a shape that overflows": (with_chunks(((0, 0), (2**40, 2**40)), size=(2**40, 2**40)), "overflows"),
    "a huge shape": (with_chunks(((0, 0), (2**20, 2**20)), size=(2**20, 2**20)), "another dtype or shape"),
    "a hole": (with_chunks(((0, 0), (3, 2))), "hole"),
    "a chunk outside": (with_chunks(((0, 2), (3, 4))), "past its shape"),
    "a chunk of another rank": (with_chunks(((0,), (12,))), "past its shape"),
    "a chunk twice": (with_chunks(((0, 0), (3, 2)), ((0, 0), (3, 2))), "twice|same bytes"),
    "a hostile name": (hostile_name, "tensor name"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_metadata_is_refused_by_name(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, message = HOSTILE[case]
    folder = save(network().state_dict(), tmp_path / "step")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    (folder / ".metadata").write_bytes(pickle.dumps(change(metadata)))
    with pytest.raises(JobFault, match=message) as caught:
        read_tensors(packed(folder))
    assert caught.value.code is FailureCode.CHECKPOINT_INVALID
    assert not (tmp_path / "marker").exists()


def test_chunks_that_overlap_where_others_leave_a_hole_are_refused(tmp_path: Path) -> None:
    """Their sizes add up, so that only the places tell."""
    folder = save({"a": torch.zeros(2, 2), "b": torch.ones(2, 2)}, tmp_path / "step")
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    entry = metadata.state_dict_metadata["a"]
    entry.size = torch.Size((4, 2))
    entry.chunks = [ChunkStorageMetadata(torch.Size(at), torch.Size((2, 2))) for at in ((0, 0), (1, 0))]
    place = {index.fqn: info for index, info in metadata.storage_data.items()}
    metadata.state_dict_metadata = {"a": entry}
    metadata.storage_data = {
        MetadataIndex("a", torch.Size((0, 0))): place["a"],
        MetadataIndex("a", torch.Size((1, 0))): place["b"],
    }
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(JobFault, match="overlap"):
        read_tensors(packed(folder))


def test_a_piece_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    folder = save({"a": torch.zeros(2)}, tmp_path / "step")
    for content, message in ((b"x" * 4096, "format of torch.save"), (saved({"a": torch.zeros(2)}), "one tensor")):
        (file,) = folder.glob("*.distcp")
        file.write_bytes(content)
        metadata = pickle.loads((folder / ".metadata").read_bytes())
        for index, info in metadata.storage_data.items():
            metadata.storage_data[index] = replace(info, offset=0, length=len(content))
        (folder / ".metadata").write_bytes(pickle.dumps(metadata))
        with pytest.raises(JobFault, match=message):
            read_tensors(packed(folder))


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_a_damaged_checkpoint_ends_in_a_fault_and_nothing_else(tmp_path: Path) -> None:
    path = packed(save({"model": network().state_dict(), "step": 1}, tmp_path / "step"))
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        damaged = bytearray(content)
        for at in torch.randint(0, len(content), (3,), generator=generator).tolist():
            damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with contextlib.suppress(JobFault):
            assert read_tensors(path)
