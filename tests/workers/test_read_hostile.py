"""Hostile bytes end in a JobFault that says why; nothing runs, nothing else escapes, nothing takes long."""

import tarfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hostile_checkpoints import hostile, tar_of

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault
from workers.readers.checkpoint import read_tensors
from workers.readers.data import read_data

CASES = hostile(Path("marker"))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_checkpoint_is_refused_with_its_reason(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = CASES[case]
    Path("upload").write_bytes(content)
    with pytest.raises(JobFault) as caught:
        read_tensors(Path("upload"))
    assert caught.value.code is FailureCode.CHECKPOINT_INVALID
    assert message in caught.value.detail
    assert not Path("marker").exists()
    with pytest.raises(JobFault) as caught:
        read_data(Path("upload"))
    assert caught.value.code is FailureCode.DATA_INVALID


SHARD = safetensors.torch.save({"a": torch.ones(2)})
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_of({"s": SHARD}), "neither an index"),
        (tar_of({INDEX: b'{"weight_map":{"a":"s"}}'}), "not in the tar"),
        (tar_of({INDEX: b'{"weight_map":{"a":"../s"}}', "s": SHARD}), "not in the tar"),
        (tar_of({INDEX: b'{"weight_map":{"b":"s"}}', "s": SHARD}), "does not place"),
        (tar_of({INDEX: b'{"weight_map":{"a":"s","b":"s"}}', "s": SHARD}), "does not hold"),
        (tar_of({INDEX: b'{"weight_map":[]}', "s": SHARD}), "weight_map"),
        (tar_of({INDEX: b""}, kind=tarfile.SYMTYPE), "links"),
        (tar_of({INDEX: b"{}" + b" " * 600})[:600], "truncated"),
        (tar_of({INDEX: b"{}"}).replace(b"0000000", b"7777777", 1), "damaged"),
        (tar_of({INDEX: b'{"weight_map":{"a":"s"}}', "s": SHARD[:-1]}), "truncated"),
    ],
)
def test_a_hostile_tar_is_refused_with_its_reason(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(JobFault, match=message):
        read_tensors(tmp_path / "upload")
