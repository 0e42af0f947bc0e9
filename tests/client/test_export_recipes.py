"""Recipes of the guide on models of libraries, built from a configuration and analysed by a real service."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from examples.embedded import running_service
from saddlescope import Client, export_loss


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("recipes") / "data") as address:
        yield address


def language_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch, use_cache=False).loss


def sentences(count: int) -> dict[str, Tensor]:
    words = torch.randint(31, (count, 8), generator=torch.Generator().manual_seed(count))
    return {"input_ids": words, "labels": words}


@pytest.mark.parametrize("family", ["GPT2", "Llama", "Qwen2"])
def test_a_causal_language_model_of_transformers_is_analysed(url: str, family: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        sizes = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        if family == "GPT2":
            sizes = {"vocab_size": 31, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
        else:
            sizes |= {"num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 16}
        config = getattr(transformers, f"{family}Config")(**sizes, attn_implementation="eager")
        model_class = {"GPT2": "GPT2LMHeadModel"}.get(family, f"{family}ForCausalLM")
        torch.manual_seed(0)
        model = getattr(transformers, model_class)(config).eval()
        program = export_loss(model, language_loss, sentences(3))
        with Client(url) as client, torch.no_grad():
            data = sentences(5)
            report = client.submit(model.state_dict(), program, data, max_matvecs=30, method="lanczos").wait(240)
            assert report.loss == pytest.approx(float(language_loss(model, data)), rel=1e-5)
            if report.escapes and report.escapes[0].verified:
                promised = report.escapes[0].apply_(model)
                assert float(language_loss(model, data)) == pytest.approx(promised, rel=1e-3)


class Tied(nn.Module):
    """An embedding that is the output as well, as in most language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.out = nn.Linear(3, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.embedding(words).tanh())


def tied_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def test_a_state_dict_with_tied_weights_is_analysed_as_it_is(url: str) -> None:
    torch.manual_seed(0)
    model = Tied().double()
    words = torch.randint(7, (6, 4))
    data = (words, words)
    with Client(url) as client:
        report = client.submit(model.state_dict(), export_loss(model, tied_loss, data), data).wait(120)
        assert report.num_parameters == 21, "a tied weight is one"
        assert report.loss == pytest.approx(float(tied_loss(model, data).detach()), rel=1e-9)
        if report.escapes:
            promised = report.escapes[0].apply_(model)
            assert float(tied_loss(model, data).detach()) == pytest.approx(promised, rel=1e-6)
