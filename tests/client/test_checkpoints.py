from __future__ import annotations

from fractions import Fraction
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from known_reports import report_with
from safetensors import safe_open
from safetensors.torch import save_file

from saddlescope.client.checkpoints import apply_to_file

DIRECTION = {"layer.weight": torch.tensor([[1.0, -1.0]])}
START = torch.tensor([[0.5, 0.5]])
END = torch.tensor([[2.5, -1.5]])


def escape():
    return report_with([DIRECTION], step=2.0).escapes[0]


def test_safetensors_keep_their_metadata_and_other_tensors(tmp_path) -> None:
    save_file({"layer.weight": START, "steps": torch.tensor(7)}, tmp_path / "in", metadata={"format": "pt", "run": "7"})
    assert apply_to_file(escape(), tmp_path / "in", tmp_path / "out") == 0.25
    with safe_open(tmp_path / "out", framework="pt") as moved:
        assert torch.equal(moved.get_tensor("layer.weight"), END)
        assert moved.get_tensor("steps") == 7
        assert moved.metadata() == {"format": "pt", "run": "7"}


@pytest.mark.parametrize("under", [None, "state_dict", "model", "model_state_dict"])
def test_a_torch_checkpoint_keeps_everything_around_its_state_dict(tmp_path, under) -> None:
    state = {"layer.weight": START.clone(), "layer.bias": torch.zeros(1)}
    torch.save(state if under is None else {"epoch": 3, under: state, "optimizer": {"lr": 0.1}}, tmp_path / "in.pt")
    apply_to_file(escape(), tmp_path / "in.pt", tmp_path / "out.pt")
    moved = torch.load(tmp_path / "out.pt", weights_only=True)
    if under is not None:
        assert (moved["epoch"], moved["optimizer"]) == (3, {"lr": 0.1})
        moved = moved[under]
    assert torch.equal(moved["layer.weight"], END)
    assert torch.equal(moved["layer.bias"], torch.zeros(1))


def test_a_checkpoint_is_moved_where_it_lies(tmp_path) -> None:
    save_file({"layer.weight": START}, tmp_path / "it")
    apply_to_file(escape(), tmp_path / "it", tmp_path / "it")
    with safe_open(tmp_path / "it", framework="pt") as moved:
        assert torch.equal(moved.get_tensor("layer.weight"), END)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_checkpoint_that_holds_code_is_left_as_it_is(tmp_path) -> None:
    torch.save({"state_dict": {"layer.weight": START}, "hyper_parameters": Fraction(1, 2)}, tmp_path / "in.pt")
    before = (tmp_path / "in.pt").read_bytes()
    with pytest.raises(ValueError, match="holds more than tensors and plain values"):
        apply_to_file(escape(), tmp_path / "in.pt", tmp_path / "in.pt")
    assert (tmp_path / "in.pt").read_bytes() == before


def test_a_checkpoint_that_is_cut_short_is_told_as_such(tmp_path) -> None:
    torch.save({"layer.weight": START}, tmp_path / "whole.pt")
    (tmp_path / "in.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-100])
    with pytest.raises(ValueError, match="is cut short or damaged"):
        apply_to_file(escape(), tmp_path / "in.pt", tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_an_npz_stays_an_npz_whatever_its_tensors_are_called(tmp_path) -> None:
    arrays = {"layer.weight": START.numpy(), "file": np.arange(3), "allow_pickle": np.array(1.5, dtype=np.float16)}
    with ZipFile(tmp_path / "in.npz", "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    apply_to_file(escape(), tmp_path / "in.npz", tmp_path / "out")
    with np.load(tmp_path / "out") as moved:
        for name, array in (arrays | {"layer.weight": END.numpy()}).items():
            np.testing.assert_array_equal(moved[name], array, strict=True)


@pytest.mark.parametrize("content", [b"", b"weights", b"\x80\x02}q\x00."])
def test_another_format_is_refused(tmp_path, content) -> None:
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(ValueError, match="no safetensors file"):
        apply_to_file(escape(), tmp_path / "in", tmp_path / "out")


def test_another_models_checkpoint_is_refused(tmp_path) -> None:
    torch.save({"other": START}, tmp_path / "in.pt")
    with pytest.raises(ValueError, match="no state dict with the tensors"):
        apply_to_file(escape(), tmp_path / "in.pt", tmp_path / "out.pt")
