"""What a runner still has when names of files are gone: its outputs, and a view of the memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from saddlescope.contract.reports import Provenance
from saddlescope.curvature.memory import DEFAULT_AVAILABLE, available_bytes, open_meters
from workers.openings import open_files
from workers.protocol import OUTPUT_FOLDER, REQUEST_FILE, Limits, Task
from workers.results import check_vector
from workers.sandbox.layers import Confinement, lock
from workers.sandbox.trial import make_cell
from workers.vectors import safetensors_pieces

PROVENANCE = Provenance()


def test_a_vector_written_in_pieces_is_the_library_s_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "half": torch.randn(3, generator=generator).to(torch.bfloat16),
        "transposed": torch.randn(4, 3, generator=generator, dtype=torch.float64).T,
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 2, dtype=torch.float16),
        "ä/1": torch.ones(1),
    }
    path = tmp_path / "vector.safetensors"
    path.write_bytes(b"".join(safetensors_pieces(tensors, {"step": "1.0", "job": "j"})))
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"step": "1.0", "job": "j"}


def test_a_locked_runner_reads_its_inputs_writes_its_outputs_and_sees_the_memory(tmp_path: Path) -> None:
    (tmp_path / OUTPUT_FOLDER).mkdir()
    (tmp_path / REQUEST_FILE).write_text("{}")
    (tmp_path / "weights").write_bytes(b"bytes")
    limits = Limits(file_bytes=2**20)
    task = Task(
        job="j",
        folder=str(tmp_path),
        artifacts={"a": str(tmp_path / "weights")},
        outputs=("vector", "seen"),
        device="cpu",
        sandbox="basic",
        limits=limits,
        provenance=PROVENANCE,
    )
    cell, parent = make_cell("cpu", {"few_system_calls"}, open_meters()), os.getpid()
    child = os.fork()
    if child == 0:
        try:
            opened = open_files(task)
            lock(Confinement(cell=cell, limits=limits, parent=parent, descriptors=opened.descriptors()))
            opened.write("seen", os.read(opened.artifacts["a"], 99) + b" %d" % available_bytes(torch.device("cpu")))
            for piece in safetensors_pieces({"w": torch.ones(2)}, {"step": "1.0"}):
                opened.write("vector", piece)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    os.close(cell.root)
    check_vector(tmp_path / OUTPUT_FOLDER / "vector")
    read, seen = (tmp_path / OUTPUT_FOLDER / "seen").read_text().split()
    assert read == "bytes"
    assert int(seen) not in (0, DEFAULT_AVAILABLE)


def test_an_output_that_was_planted_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / OUTPUT_FOLDER).mkdir()
    (tmp_path / REQUEST_FILE).write_text("{}")
    (tmp_path / OUTPUT_FOLDER / "seen").symlink_to(tmp_path / REQUEST_FILE)
    task = Task(
        job="j",
        folder=str(tmp_path),
        artifacts={},
        outputs=("seen",),
        device="cpu",
        sandbox="basic",
        limits=Limits(file_bytes=1),
        provenance=PROVENANCE,
    )
    with pytest.raises(FileExistsError):
        open_files(task)
