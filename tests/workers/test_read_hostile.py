"""Hostile bytes end in a JobFault that says why; nothing runs, nothing else escapes, nothing takes long."""

import io
import json
import random
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
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


def genuine() -> dict[str, bytes]:
    tensors = {"0.weight": torch.randn(3, 2), "0.bias": torch.zeros(3, dtype=torch.bfloat16), "n": torch.tensor(3)}
    saved, arrays = io.BytesIO(), io.BytesIO()
    torch.save(OrderedDict(model=tensors, step=3), saved)
    np.savez(arrays, a=np.ones((2, 3)), b=np.arange(4))
    index = json.dumps({"weight_map": dict.fromkeys(tensors, "s")}).encode()
    safe = safetensors.torch.save(tensors)
    return {
        "torch.save": saved.getvalue(),
        "npz": arrays.getvalue(),
        "safetensors": safe,
        "tar": tar_of({INDEX: index, "s": safe}).rstrip(b"\0") + bytes(1024),
    }


@pytest.mark.parametrize("kind", ["torch.save", "npz", "safetensors", "tar"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    content, path, refused = genuine()[kind], tmp_path / "upload", 0
    structure = [at for at, byte in enumerate(content) if byte]
    for _ in range(2_000):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 8))):
            match chance.randrange(4):
                case 0:
                    damaged[chance.choice(structure)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                case 1:
                    at = chance.randrange(len(content))
                    damaged[at : at + 8] = chance.choice(
                        (bytes(8), b"\xff" * 8, struct.pack("<q", chance.getrandbits(40)))
                    )
                case 2:
                    del damaged[chance.randrange(len(damaged)) :][:]
                    damaged = damaged[: chance.randrange(1, len(damaged) + 1)] if damaged else bytearray(b"x")
                case 3:
                    at, source = chance.randrange(len(damaged)), chance.randrange(len(content))
                    damaged[at : at + 4] = content[source : source + 4]
            if len(damaged) < len(content):
                break
        path.write_bytes(damaged)
        try:
            tensors = read_tensors(path)
        except JobFault:
            refused += 1
            continue
        # What is read is whole: every number can be touched.
        assert sum(tensor.numel() for tensor in tensors.values()) <= len(content)
        for tensor in tensors.values():
            tensor.double().sum()
    assert refused > 500
