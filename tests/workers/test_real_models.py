"""Models as people have them, built from their configurations: their checkpoints are read, and their programs are the models."""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from program_models import Batch, Case, write_archive
from safetensors.torch import load_file
from test_program_parity import (
    Exported,
    test_loss_gradient_and_products_are_those_of_the_eager_model,
)
from test_read_checkpoint import assert_same
from torch import Tensor, nn
from torch.nn import functional

from workers.readers.checkpoint import read_tensors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # on import, of its optional parts
    transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
]
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


def words(rows: int) -> Batch:
    return {"tokens": torch.randint(0, 31, (rows, 9))}


def images(rows: int) -> Batch:
    return {"pixels": torch.randn(rows, 3, 16, 16), "labels": torch.randint(0, 3, (rows,))}


def next_word(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(input_ids=batch["tokens"][:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), batch["tokens"][:, 1:].flatten())


def class_of_image(model: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(model(pixel_values=batch["pixels"]).logits, batch["labels"])


def gpt2() -> Case:
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2, attn_implementation="eager", **NO_DROPOUT
    )
    return Case(transformers.GPT2LMHeadModel(config).eval(), next_word, words)


def llama() -> Case:
    config = transformers.LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16, attn_implementation="eager",
    )  # fmt: skip
    return Case(transformers.LlamaForCausalLM(config).eval(), next_word, words)


def vit() -> Case:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=8,
        num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="sdpa",
    )  # fmt: skip
    return Case(transformers.ViTForImageClassification(config).eval(), class_of_image, images)


def resnet() -> Case:
    """ResNet-18 in everything but width, with running statistics that were learned."""
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        hidden_act="silu",
        num_labels=3,
    )
    model = transformers.ResNetForImageClassification(config)
    model(pixel_values=images(8)["pixels"])
    return Case(model.eval(), class_of_image, images)


MODELS: dict[str, Callable[[], Case]] = {"gpt2": gpt2, "llama": llama, "vit": vit, "resnet": resnet}


def built(name: str) -> Case:
    torch.manual_seed(0)
    return MODELS[name]()


@pytest.fixture(scope="module", params=["gpt2", "vit", "resnet"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case = built(request.param)
    return Exported(case, write_archive(case, tmp_path_factory.mktemp(request.param)))


def test_a_model_that_rotates_in_single_precision_is_its_program_in_single_precision(tmp_path: Path) -> None:
    """Its angles are rounded to float32 in every eager model, and in a program to the precision of the analysis."""
    case = built("llama")
    same = test_loss_gradient_and_products_are_those_of_the_eager_model
    same(Exported(case, write_archive(case, tmp_path)), torch.float32, 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_torch_save_is_read_as_torch_load_reads_it(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    case = built(name)
    optimizer = torch.optim.AdamW(case.model.parameters())
    case.loss(case.model, case.rows(3)).backward()
    optimizer.step()
    state = case.model.to(dtype).state_dict()
    torch.save({"model": state, "optimizer": optimizer.state_dict(), "step": torch.tensor(1)}, tmp_path / "a")
    assert_same(read_tensors(tmp_path / "a"), torch.load(tmp_path / "a", weights_only=True)["model"])


@pytest.mark.parametrize("name", MODELS)
def test_what_save_pretrained_writes_is_read_whole_and_in_shards(tmp_path: Path, name: str) -> None:
    model = built(name).model
    model.save_pretrained(tmp_path / "whole")
    read = read_tensors(tmp_path / "whole" / "model.safetensors")
    assert_same(read, load_file(tmp_path / "whole" / "model.safetensors"))
    # Of names that are tied, the writer keeps one.
    assert len(read) == len({tensor.data_ptr() for tensor in model.state_dict().values()})
    model.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    with tarfile.open(tmp_path / "shards.tar", "w") as tar:
        for file in sorted((tmp_path / "shards").glob("model*")):
            tar.add(file, arcname=file.name)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert_same(read_tensors(tmp_path / "shards.tar"), read)
