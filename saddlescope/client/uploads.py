"""What a caller gives for a checkpoint, a loss or data, as the contract's sources and the bytes to upload."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from pydantic import JsonValue

from saddlescope.client.batches import named
from saddlescope.client.tensor_stream import NoSuchDtype, Part, tensor_stream
from saddlescope.client.transport import Body
from saddlescope.contract.sources import ArtifactSource, CheckpointSource, InlineSource, ObjectSource, PathSource

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Array: TypeAlias = Tensor | np.ndarray[tuple[int, ...], np.dtype[np.generic]]

Tensors: TypeAlias = "Mapping[str, Tensor] | Mapping[str, Array] | Mapping[str, JsonValue]"
Content: TypeAlias = (
    "Tensors | Sequence[Tensor] | Sequence[Array] | Array | Path | str | bytes | PathSource | ObjectSource"
)
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """Bytes by their hash."""

    artifact: str
    body: Body


Source: TypeAlias = CheckpointSource


def prepare(content: Content, *, what: str) -> tuple[Source, Upload | None]:
    """The source that names the content in a request, and the upload that it needs, if any.

    Args:
        content: tensors or arrays by name (sent as safetensors; a tuple is named as `export_loss` names it), numbers by name
            (sent in the request), a path, bytes, or a reference that the service's workers can read themselves.
        what: the argument's name, for messages.

    Raises:
        FileNotFoundError: if the path does not exist.
        TypeError: if a mapping holds anything else.
        ValueError: if inline numbers break the contract.
    """
    if isinstance(content, PathSource | ObjectSource):
        return content, None
    if isinstance(content, str | Path):
        upload = upload_of_file(Path(content))
    elif isinstance(content, bytes):
        upload = upload_of_bytes(content)
    elif isinstance(content, Mapping | tuple | list) or _is_torch(content) or _is_numpy(content):
        tensors = named(content)
        numbers = _inline(tensors)
        if numbers is not None:
            return InlineSource(inline=numbers), None
        upload = upload_of_tensors(tensors, what=what)
    else:
        raise TypeError(f"{what} is a {type(content).__name__}; expected tensors by name, a path or bytes")
    return ArtifactSource(artifact=upload.artifact), upload


def upload_of_bytes(content: bytes) -> Upload:
    def chunks(offset: int = 0) -> Iterator[bytes]:
        view = memoryview(content)
        for start in range(offset, len(view), CHUNK_BYTES):
            yield bytes(view[start : start + CHUNK_BYTES])

    return Upload(f"sha256:{hashlib.sha256(content).hexdigest()}", Body(len(content), chunks))


def upload_of_file(path: Path) -> Upload:
    """Raises: FileNotFoundError if the path does not exist."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Upload(f"sha256:{digest}", body_of_file(path))


def body_of_file(path: Path) -> Body:
    """Raises: FileNotFoundError if the path does not exist."""

    def chunks(offset: int = 0) -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    return Body(path.stat().st_size, chunks)


def upload_of_tensors(tensors: Mapping[str, object], *, what: str) -> Upload:
    """Tensors or arrays as safetensors, read where they are: what is contiguous and on the host is not copied.

    Raises:
        TypeError: if an entry is no dense tensor or numeric array.
    """
    strangers = [name for name, value in tensors.items() if not (_is_torch(value) or _is_numpy(value))]
    if strangers:
        shown = ", ".join(f"{name!r} ({type(tensors[name]).__name__})" for name in strangers[:5])
        raise TypeError(f"{what} holds entries that are no tensors: {shown}; leave them out")
    try:
        stream = tensor_stream({name: _part(name, value, what=what) for name, value in tensors.items()})
    except NoSuchDtype as unknown:
        raise TypeError(f"{what} holds {unknown}; only numbers can be sent") from None

    def chunks(offset: int = 0) -> Iterator[bytes]:
        return stream.chunks(offset, chunk_bytes=CHUNK_BYTES)

    digest = hashlib.sha256()
    for chunk in chunks():
        digest.update(chunk)
    return Upload(f"sha256:{digest.hexdigest()}", Body(stream.num_bytes, chunks))


def _part(name: str, value: object, *, what: str) -> Part:
    if _is_numpy(value):
        import numpy as np  # noqa: PLC0415  here only if the caller has it

        if value.dtype.kind not in "biufc":
            raise TypeError(f"{what} holds {name!r} with dtype {value.dtype}; only numbers can be sent")
        little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        return Part(value.dtype.name, value.shape, little.reshape(-1).view(np.uint8).data)
    import torch  # noqa: PLC0415  here only if the caller has it

    tensor = torch.as_tensor(value)
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise TypeError(f"{what} holds {name!r}, which is sparse, quantized or without values; send a dense tensor")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    content = tensor.reshape(-1).view(torch.uint8).numpy()
    return Part(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), content.data)


def _inline(tensors: Mapping[str, object]) -> dict[str, JsonValue] | None:
    """The numbers of a mapping that holds plain numbers and lists alone."""
    numbers: dict[str, JsonValue] = {}
    for name, value in tensors.items():
        if not _is_json_number(value):
            return None
        numbers[name] = value
    return numbers


def _is_json_number(value: object) -> TypeGuard[JsonValue]:
    if isinstance(value, list):
        return all(_is_json_number(entry) for entry in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_torch(value: object) -> TypeGuard[Tensor]:
    torch = sys.modules.get("torch")  # a tensor can only be here if its maker is
    return torch is not None and isinstance(value, torch.Tensor)


def _is_numpy(value: object) -> TypeGuard[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)
