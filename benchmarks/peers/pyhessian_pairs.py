"""PyHessian: power iteration with deflation, by magnitude; it has no way to ask for an end.

So it is asked for the leading `top_n` and the two lowest and two highest of them are taken. Its Lanczos (`density`) calls
`torch.eig`, which torch has removed, and gives no vectors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.peers.models import Subject
from benchmarks.peers.question import PAIRS_AT_EACH_END
from benchmarks.peers.subject import Answer, Setting


def prepare(subject: Subject) -> Callable[[int, Setting], Answer]:
    library = importlib.import_module("pyhessian.hessian")  # the package has a class of this name too
    num_products = 0

    def counted(product: Callable[..., object]) -> Callable[..., object]:
        def count_and_apply(*arguments: object) -> object:
            nonlocal num_products
            num_products += 1
            return product(*arguments)

        return count_and_apply

    library.hessian_vector_product = counted(library.hessian_vector_product)
    is_single = len(subject.batches) == 1
    source = {"data": subject.batches[0]} if is_single else {"dataloader": list(subject.batches)}
    hessian = library.hessian(subject.network, nn.CrossEntropyLoss(), cuda=False, **source)
    hessian.dataloader_hv_product = counted(hessian.dataloader_hv_product)
    hessian.eigenvalues(maxIter=1, top_n=1)

    def solve(seed: int, setting: Setting) -> Answer:
        nonlocal num_products
        num_products = 0
        torch.manual_seed(seed)
        values, vectors = hessian.eigenvalues(
            maxIter=int(setting["max_iterations"]), tol=float(setting["tol"]), top_n=int(setting["top_n"])
        )
        order = sorted(range(len(values)), key=values.__getitem__)
        chosen = [*order[:PAIRS_AT_EACH_END], *order[-PAIRS_AT_EACH_END:]]
        flat = [torch.cat([piece.detach().reshape(-1) for piece in vectors[index]]) for index in chosen]
        return Answer({"vectors": torch.stack(flat)}, num_products)

    return solve
