"""Checkpoints written by hand, byte by byte, so that they can say what no stock writer would."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def torch_saved(pickled: bytes, records: dict[str, bytes] | None = None) -> bytes:
    members = [("archive/data.pkl", pickled)] + [(f"archive/data/{key}", held) for key, held in (records or {}).items()]
    return zipped(members)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def stored_tensor(
    *,
    numel: int = 4,
    offset: int = 0,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    key: str = "0",
    storage: str = "FloatStorage",
) -> bytes:
    """Opcodes that push one tensor."""
    storage_id = (
        b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + integer(numel) + b"tQ"
    )
    shape = b"(" + b"".join(map(integer, size)) + b"t(" + b"".join(map(integer, stride)) + b"t"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage_id
        + integer(offset)
        + shape
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def state_dict(**tensors: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(text(name) + tensor for name, tensor in tensors.items()) + b"u."


class Runs:
    """What a stock unpickler would execute."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def safetensors_bytes(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def overlapping_zip() -> bytes:
    """Two directory entries for one and the same member data."""
    content = bytearray(zipped([("a.npy", b"x" * 64), ("b.npy", b"x" * 64)]))
    second = content.rfind(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    return bytes(content)


def replaced_items() -> bytes:
    return b"\x80\x02ccollections\nOrderedDict\n)R}" + text("items") + b"cos\nsystem\nsb."


RECORD = {"0": bytes(16)}
TUPLE_BOMB = b"\x80\x02)" + b"\x85" * 2_000_000 + b"."
DOUBLING = b"\x80\x02)q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60)) + b"}h\x00K\x01s."
SMALL_NPY = io.BytesIO()
np.save(SMALL_NPY, np.ones(3))


def object_npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.array([Runs(print, "ran")], dtype=object))
    return file.getvalue()


def tar_of(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = (
                len(content),
                kind,
                "/etc/passwd" if kind != tarfile.REGTYPE else "",
            )
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def hostile(marked: Path) -> dict[str, tuple[bytes, str]]:
    """File and a part of the message, by case; what a stock loader would run writes the file `marked`."""
    marker = Runs(open, str(marked), "w")
    legacy, scripted = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False)
    scripted.write(zipped([("m/data.pkl", b"."), ("m/constants.pkl", b"."), ("m/code/m.py", b"x")]))
    deflated = io.BytesIO()
    np.savez_compressed(deflated, a=np.zeros(10**6))
    good = io.BytesIO()
    torch.save({"a": torch.ones(200)}, good)
    npy = SMALL_NPY.getvalue()
    return {
        "os.system": (torch_saved(b"\x80\x02cos\nsystem\n" + text(f"touch {marked}") + b"\x85R."), "'os.system'"),
        "open under reduce": (torch_saved(pickle.dumps({"a": marker}, protocol=2)), "nothing is imported"),
        "stack global": (torch_saved(pickle.dumps({"a": marker}, protocol=4)), "nothing is imported"),
        "uninitialised tensor": (
            torch_saved(b"\x80\x02ctorch\nFloatTensor\n" + integer(2**20) + b"\x85R."),
            "FloatTensor",
        ),
        "bytearray": (torch_saved(b"\x80\x02c__builtin__\nbytearray\n" + integer(3 * 2**30) + b"\x85R."), "bytearray"),
        "sparse": (torch_saved(b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R."), "_rebuild_sparse_tensor"),
        "whole model": (torch_saved(b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81."), "state_dict"),
        "replaced items": (torch_saved(replaced_items()), "nothing is imported"),
        "attributes": (torch_saved(b"\x80\x02ccollections\nOrderedDict\n)R}" + text("items") + b"Nsb."), "attributes"),
        "memo doubling": (torch_saved(DOUBLING), "dict key"),
        "nested tuples": (torch_saved(TUPLE_BOMB), "no state dict"),
        "opcodes": (torch_saved(b"\x80\x02" + b"N" * 5_000_001), "opcodes"),
        "huge pickle": (torch_saved(b"N" * (16 * 2**20 + 1)), "data.pkl has"),
        "empty stack": (torch_saved(b"\x80\x02."), "empty stack"),
        "no mark": (torch_saved(b"\x80\x02Nt."), "mark"),
        "endless pickle": (torch_saved(b"\x80\x02X\xff\xff\xff\xffa"), "too early"),
        "no state": (torch_saved(b"\x80\x02}."), "no state dict"),
        "short record": (torch_saved(state_dict(a=stored_tensor(numel=400)), RECORD), "record has 16 bytes"),
        "record missing": (torch_saved(state_dict(a=stored_tensor())), "missing"),
        "key with dots": (torch_saved(state_dict(a=stored_tensor(key="../data.pkl")), RECORD), "missing"),
        "past storage": (torch_saved(state_dict(a=stored_tensor(offset=1)), RECORD), "past the end"),
        "wide stride": (torch_saved(state_dict(a=stored_tensor(stride=(2**60,))), RECORD), "past the end"),
        "expanded": (torch_saved(state_dict(a=stored_tensor(size=(2**40,), stride=(0,))), RECORD), "expanded"),
        "overflowing shape": (
            torch_saved(state_dict(a=stored_tensor(size=(2**40, 2**40), stride=(1, 1))), RECORD),
            "overflows",
        ),
        "negative offset": (torch_saved(state_dict(a=stored_tensor(offset=-1)), RECORD), "wrongly"),
        "rank 9": (torch_saved(state_dict(a=stored_tensor(size=(1,) * 9, stride=(1,) * 9)), RECORD), "dimensions"),
        "bad name": (torch_saved(state_dict(**{"a..b": stored_tensor()}), RECORD), "tensor name"),
        "200 aliases": (
            torch_saved(state_dict(**{f"a{i}": stored_tensor(size=(2,), offset=i % 3) for i in range(200)}), RECORD),
            "shares memory",
        ),
        "self-overlapping view": (
            torch_saved(state_dict(a=stored_tensor(size=(2, 3), stride=(1, 1))), RECORD),
            "shares memory",
        ),
        "two descriptions": (
            torch_saved(state_dict(a=stored_tensor(), b=stored_tensor(storage="IntStorage")), RECORD),
            "two different ways",
        ),
        "big endian": (zipped([("a/data.pkl", b"."), ("a/byteorder", b"big")]), "big-endian"),
        "two roots": (zipped([("a/data.pkl", b"."), ("b/data.pkl", b".")]), "top folder"),
        "TorchScript": (scripted.getvalue(), "TorchScript"),
        "legacy torch.save": (legacy.getvalue(), "before 1.6"),
        "bare pickle": (pickle.dumps(marker), "never loaded"),
        "truncated torch.save": (good.getvalue()[:-100], "truncated"),
        "deflate bomb": (deflated.getvalue(), "savez"),
        "overlapping members": (overlapping_zip(), "overlaps"),
        "duplicate member": (
            zipped([("a.npy", npy), ("b.npy", npy)]).replace(b"b.npy", b"a.npy"),
            "twice",
        ),
        "climbing member": (zipped([("../a.npy", npy)]), "member named"),
        "object array": (object_npz(), "dtype"),
        "lying array": (zipped([("a.npy", npy.replace(b"(3,)", b"(9,)"))]), "needs 72 bytes"),
        "array overflow": (zipped([("a.npy", npy.replace(b"(3,), }   ", b"(99999999999999,), }")[: len(npy)])]), "a"),
        "one .npy": (npy, "savez"),
        "zip of text": (zipped([("readme.txt", b"hello")]), "something else"),
        "empty": (b"", "empty"),
        "text": (b"hello world, this is no checkpoint", "not known"),
        "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        "header 2^63": (safetensors_bytes(b"{}", length=2**63), "claims"),
        "header 90 MiB": (safetensors_bytes(b"{" + b" " * (90 * 2**20) + b"}"), "claims"),
        "overlap": (
            safetensors_bytes(json.dumps({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}).encode(), bytes(12)),
            "overlaps",
        ),
        "hole": (
            safetensors_bytes(json.dumps({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}).encode(), bytes(12)),
            "hole",
        ),
        "trailing bytes": (safetensors_bytes(json.dumps({"a": entry([1], 0, 4)}).encode(), bytes(8)), "end at byte"),
        "truncated": (safetensors_bytes(json.dumps({"a": entry([4], 0, 16)}).encode(), bytes(8)), "truncated"),
        "duplicate names": (
            safetensors_bytes(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":'
                + b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                bytes(4),
            ),
            "twice",
        ),
        "shape overflow": (
            safetensors_bytes(json.dumps({"a": entry([2**40, 2**40], 0, 4)}).encode(), bytes(4)),
            "overflows",
        ),
        "negative shape": (
            safetensors_bytes(json.dumps({"a": entry([-1, -4], 0, 16)}).encode(), bytes(16)),
            "impossible",
        ),
        "unknown dtype": (safetensors_bytes(json.dumps({"a": entry([1], 0, 1, "F8_E5M2")}).encode(), b"0"), "F8_E5M2"),
        "NaN in header": (safetensors_bytes(b'{"a":NaN}'), "NaN"),
        "deep header": (safetensors_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "deep"),
        "huge number": (safetensors_bytes(b'{"a":' + b"9" * 10_000 + b"}"), "JSON"),
        "no tensors": (safetensors_bytes(b"{}"), "no tensors"),
    }
