"""What a run leaves behind so that another goes on from there: its Hessian products, and the choices that fix their bits.

Everything between two products is cheap and deterministic. So a run is resumed by running it again from its seed, with the
products that are known already looked up instead of computed, in whatever part of the recipe they were asked for. Each is
filed under a digest of the point and the vector: where rounding differs, as on another processor, what is asked for is not
found and is computed, and nothing is ever taken for the product of another vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saddlescope.curvature.objective import Objective
from saddlescope.curvature.products import Mode

FORMAT = "saddlescope-saved-run-1"
DIGEST_BYTES = 16
CHUNK = 2**16
MIXING = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64), (31, 1))


class SavedRunDamaged(Exception):
    """The file is not a saved run, or not a whole one. Start over without it."""


@dataclass(frozen=True)
class SavedRun:
    """The state of a run between two products.

    Attributes:
        fingerprint: of the question; a run of another question is not resumed from this one.
        products: Hv on the CPU by the digest of its point and v, both (n,) or in fewer coordinates.
        mode: how products are computed.
        overflow: how those beyond the memory are.
        batch_size: rows a batch.
        row_block: rows of a dense Hessian computed together, None where none were.
        matvecs: products done so far; those beyond the memory for them are done again.
        seconds: spent so far, earlier attempts included.
    """

    fingerprint: str
    products: Mapping[str, Tensor]
    mode: Mode
    overflow: Mode
    batch_size: int
    row_block: int | None
    matvecs: int
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Of the file, to within its header."""
        return sum(product.nbytes for product in self.products.values())

    @property
    def metadata(self) -> dict[str, str]:
        """What stands beside the products in the file."""
        known = {
            "fingerprint": self.fingerprint,
            "mode": self.mode.value,
            "overflow": self.overflow.value,
            "batch_size": self.batch_size,
            "row_block": self.row_block,
            "matvecs": self.matvecs,
            "seconds": self.seconds,
        }
        return {"format": FORMAT, "run": json.dumps(known)}

    def write(self, path: Path) -> None:
        """One safetensors file. It is written in place: give a path of its own and rename it when this returns."""
        save_file(dict(self.products), path, metadata=self.metadata)

    @staticmethod
    def read(path: Path) -> SavedRun:
        """The run that `write` left there.

        Raises:
            SavedRunDamaged: if the file is cut, altered, or something else.
            FileNotFoundError: if there is none.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                products = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except SafetensorError as failure:
            raise SavedRunDamaged(f"this is no whole safetensors file: {failure}") from failure
        return SavedRun.parse(products, metadata)

    @staticmethod
    def parse(products: Mapping[str, Tensor], metadata: Mapping[str, object]) -> SavedRun:
        """The run of a file's tensors and metadata.

        Raises:
            SavedRunDamaged: if it is altered, or something else.
        """
        if metadata.get("format") != FORMAT:
            raise SavedRunDamaged("this is a safetensors file, but no saved run of this version")
        dtypes = {product.dtype for product in products.values()}
        is_uniform = len(dtypes) <= 1 and all(
            product.dim() == 1 and product.is_floating_point() for product in products.values()
        )
        if not is_uniform or not all(_is_digest(name) for name in products):
            raise SavedRunDamaged("this file holds tensors that are not the products of one Hessian")
        text = metadata.get("run", "")
        return _parsed(text if isinstance(text, str) else "", products)


def _is_digest(name: str) -> bool:
    return len(name) == 2 * DIGEST_BYTES and set(name) <= set("0123456789abcdef")


def _parsed(text: str, products: Mapping[str, Tensor]) -> SavedRun:
    try:
        match json.loads(text):
            case {
                "fingerprint": str(fingerprint),
                "mode": str(mode),
                "overflow": str(overflow),
                "batch_size": int(batch_size),
                "row_block": (int() | None) as row_block,
                "matvecs": int(matvecs),
                "seconds": float(seconds),
            } if batch_size > 0 and matvecs >= 0 and seconds >= 0 and (row_block is None or row_block > 0):
                modes = Mode(mode), Mode(overflow)
                return SavedRun(fingerprint, products, *modes, batch_size, row_block, matvecs, seconds)
    except ValueError as failure:
        raise SavedRunDamaged(f"the description of the run is damaged: {failure}") from failure
    raise SavedRunDamaged("the description of the run is damaged")


def fingerprint(objective: Objective, question: str) -> str:
    """A digest of the question in words (options, versions), θ, constants, data and dtype; of L itself only by its inputs.

    Reads all of the data once.
    """
    digest = blake2b(question.encode(), digest_size=DIGEST_BYTES)
    problem = objective.problem
    words = (objective.dtype, problem.reduction, problem.scale, problem.weight_decay, problem.lower_bound)
    digest.update(repr(words).encode())
    for group in (problem.params, problem.constants, problem.data):
        for name, tensor in group.items():
            digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
            digest.update(_raw(tensor))
    return digest.hexdigest()


def digest_of(vector: Tensor, key: bytes = b"") -> bytes:
    """Of the bits of a vector (n,) of floats, beside those of a key, at the speed of memory and where the vector lies.

    Σ mix(x_i + w_i) over the bits x_i as integers modulo 2⁶⁴, by chunks, with random w_i: a single entry that differs always
    shows, and several cancel with probability 2⁻⁶³. A linear mix would not do: floats end in zeros, so w_i·x_i keeps only
    the last bits of w_i, and of some thousand unit vectors many would be called equal.
    """
    words = vector.detach().view(torch.int64 if vector.dtype == torch.float64 else torch.int32)
    weights = _weights(str(vector.device))
    sums = [_mixed(chunk + weights[: chunk.numel()]).sum() for chunk in torch.split(words, CHUNK)]
    digest = blake2b(key, digest_size=DIGEST_BYTES)
    digest.update(_raw(torch.stack(sums)))
    return digest.digest()


@cache
def _weights(device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-(2**63), 2**63 - 1, (CHUNK,), generator=generator).to(device)


def _mixed(words: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014), a permutation of the integers (n,); overwrites them."""
    for shift, factor in MIXING:
        words ^= (words >> shift) & ((1 << (64 - shift)) - 1)  # a logical shift
        words *= factor
    return words


def _raw(tensor: Tensor) -> memoryview:
    """The numbers of a tensor as they lie in memory, without a copy where they lie on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
