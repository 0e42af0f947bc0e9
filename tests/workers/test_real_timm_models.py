"""Classifiers of timm, built from their configurations: their checkpoints are read, and their programs are the models."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from program_models import Batch, Case, write_archive
from test_program_parity import (
    Exported,
    test_loss_gradient_and_products_are_those_of_the_eager_model,  # noqa: F401 - of the models of `exported`
)
from test_read_checkpoint import assert_same
from torch import Tensor, nn
from torch.nn import functional

from workers.readers.checkpoint import read_tensors

# torchvision built for CUDA beside a torch for CPUs finds none of its operators, which no classifier needs.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
if (vision := importlib.util.find_spec("torchvision")) is not None and vision.origin is not None:
    text = Path(vision.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    for name in re.findall(r'register_(?:meta|fake)\("(?:torchvision::)?(\w+)"', text):
        _OPERATORS.define(f"{name}(Tensor x) -> Tensor")
timm = pytest.importorskip("timm")

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
]
SIZES = {"test_vit": 32, "test_resnet": 32, "test_convnext": 32}


def class_of_image(model: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(model(batch["pixels"]), batch["labels"])


def built(name: str) -> Case:
    torch.manual_seed(0)
    size = SIZES[name]
    options = {"img_size": size, "dynamic_img_size": False} if "vit" in name else {}
    model = timm.create_model(name, num_classes=3, **options)

    def images(rows: int) -> Batch:
        return {"pixels": torch.randn(rows, 3, size, size), "labels": torch.randint(0, 3, (rows,))}

    model(images(8)["pixels"])  # running statistics that were learned
    return Case(model.eval(), class_of_image, images)


@pytest.fixture(scope="module", params=SIZES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case = built(request.param)
    return Exported(case, write_archive(case, tmp_path_factory.mktemp(request.param)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_its_checkpoint_is_read_as_torch_load_reads_it(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    case = built(name)
    optimizer = torch.optim.AdamW(case.model.parameters())
    case.loss(case.model, case.rows(3)).backward()
    optimizer.step()
    state = case.model.to(dtype).state_dict()
    torch.save({"model": state, "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "a")
    assert_same(read_tensors(tmp_path / "a"), torch.load(tmp_path / "a", weights_only=True)["model"])
