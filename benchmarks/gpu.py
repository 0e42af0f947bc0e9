"""The engine's promises on one CUDA device: `python -m benchmarks.gpu`; `--tiny --device cpu` runs the same code small.

Products in gradients as on the CPU, then two decoders with random weights on random tokens: one of GPT-2's size (124 million
parameters, 4 × 1,024 tokens), its product and a verdict with an escape; one of a billion, λ_min with certificate and escape.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import saddlescope
from benchmarks.products import NETWORKS, Network, Transformer, cost
from benchmarks.promises import Promise, print_table
from saddlescope.results import AnalysisReport


@dataclass(frozen=True)
class Size:
    """A decoder and its data."""

    words: int
    width: int
    length: int
    num_blocks: int
    num_heads: int
    num_rows: int

    def make(self) -> tuple[nn.Module, Tensor, Tensor]:
        model = Transformer(self.words, self.width, self.length, num_blocks=self.num_blocks, num_heads=self.num_heads)
        tokens = torch.randint(0, self.words, (self.num_rows, self.length + 1))
        return model, tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)


GPT2 = Size(words=50_257, width=768, length=1024, num_blocks=12, num_heads=12, num_rows=4)
BILLION = Size(words=50_257, width=2048, length=1024, num_blocks=18, num_heads=16, num_rows=1)
TINY = Size(words=50, width=16, length=8, num_blocks=2, num_heads=2, num_rows=4)
PRODUCT_GRADIENTS = 2.5
VERDICT_SECONDS = 60.0
CERTIFICATE_SECONDS = 600.0
VERDICT_MATVECS, CERTIFICATE_MATVECS = 40, 60


def run(device: str, *, is_tiny: bool) -> list[Promise]:
    """Measure and print."""
    gpt2, billion = (replace(TINY, num_blocks=blocks) for blocks in (2, 3)) if is_tiny else (GPT2, BILLION)
    promises = [cost(network, device).promise for network in NETWORKS]
    promises.append(cost(Network("decoder of GPT-2's size", gpt2.make, PRODUCT_GRADIENTS), device).promise)
    report, seconds = _analyzed(gpt2, device, max_matvecs=VERDICT_MATVECS)
    promises.append(Promise("GPT-2's size: seconds to verdict and escape", seconds, VERDICT_SECONDS))
    report, seconds = _analyzed(billion, device, max_matvecs=CERTIFICATE_MATVECS)
    is_certified = report.lambda_min.low > float("-inf") and any(escape.verified for escape in report.escapes)
    answered = seconds if is_certified else None
    promises.append(Promise("a billion: seconds to certified λ_min, verified escape", answered, CERTIFICATE_SECONDS))
    return promises


def _analyzed(size: Size, device: str, *, max_matvecs: int) -> tuple[AnalysisReport, float]:
    torch.manual_seed(0)
    model, x, y = size.make()
    model.to(device)
    data = {"x": x.to(device), "y": y.to(device).reshape(x.shape[0], -1)}

    def loss(tensors: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        logits = torch.func.functional_call(model, dict(tensors), (batch["x"],))
        return nn.functional.cross_entropy(logits, batch["y"].reshape(-1))

    params = {name: parameter.detach() for name, parameter in model.named_parameters()}
    began = time.perf_counter()
    report = saddlescope.analyze(
        loss,
        params,
        data,
        method="lanczos",
        dtype="float32",
        max_matvecs=max_matvecs,
        num_escape_vectors=1,
        landscape=False,
        gradient_tol=1e6,  # random weights are no critical point: the spectrum and the way out are what is timed
    )
    seconds = time.perf_counter() - began
    num_parameters = sum(tensor.numel() for tensor in params.values())
    print(f"{num_parameters:,} parameters on {device}: {report.verdict} in {seconds:.1f} s", flush=True)
    print(
        f"  λ_min {report.lambda_min.estimate:.4g}, not below {report.lambda_min.low:.4g}; {report.summary}", flush=True
    )
    return report, seconds


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="decoders of a few thousand parameters, to try the code")
    parsed = parser.parse_args(arguments)
    if parsed.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here; `--device cpu --tiny` runs the same code small")
        return 2
    promises = run(parsed.device, is_tiny=parsed.tiny)
    print_table(promises)
    return 0 if all(promise.is_kept for promise in promises) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
