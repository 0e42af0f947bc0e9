"""export_loss: what comes out, what it refuses, and that it leaves the model alone."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from saddlescope.client.batches import named
from saddlescope.client.export import ExportError, export_loss
from saddlescope.client.uploads import prepare

Batch = dict[str, Tensor]


def mse(model: nn.Module, batch: Batch) -> Tensor:
    return functional.mse_loss(model(batch["x"]), batch["y"])


def rows(count: int = 4) -> Batch:
    return {"x": torch.randn(count, 3), "y": torch.randn(count, 2)}


def with_everything() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))
    model.register_buffer("unsaved", torch.ones(2), persistent=False)
    return model.eval()


def test_the_archive_loads_in_torch_with_the_models_own_names_and_any_batch_size() -> None:
    model = with_everything()
    program = torch.export.load(io.BytesIO(export_loss(model, mse, rows())))
    assert set(program.state_dict) == set(model.state_dict())
    for count in (2, 9):
        batch = rows(count)
        torch.testing.assert_close(program.module(check_guards=False)(**batch), mse(model, batch))


def test_the_archive_holds_no_sample_data_no_source_lines_and_no_paths() -> None:
    example = {"x": torch.full((4, 3), 1234.5), "y": torch.zeros(4, 2)}
    archive = export_loss(with_everything(), mse, example)
    assert example["x"].numpy().tobytes()[:12] not in archive
    for trace in (
        b".py",
        b"test_export",
        b"functional.mse_loss",
        b"stack_trace",
        b"size()[0]",
        str(sys.prefix).encode(),
    ):
        assert trace not in archive
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in opened.infolist())
        assert opened.read("loss/data/sample_inputs/model.pt") == b""


def test_the_same_loss_gives_the_same_bytes_so_that_it_is_sent_once() -> None:
    model, batch = with_everything(), rows()
    assert export_loss(model, mse, batch) == export_loss(model, mse, batch)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].weight.requires_grad_(False)
    mse(model, rows()).backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()]
    generator = torch.get_rng_state()
    export_loss(model, mse, rows_without_random_numbers())
    assert model.training
    assert not model[1].weight.requires_grad
    assert torch.equal(generator, torch.get_rng_state())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert (parameter.grad is None and grad is None) or torch.equal(parameter.grad, grad)


def rows_without_random_numbers() -> Batch:
    return {"x": torch.ones(4, 3), "y": torch.ones(4, 2)}


def test_a_model_that_keeps_its_activations_is_exported_and_keeps_none() -> None:
    model = Caching(3, 2)
    program = torch.export.load(io.BytesIO(export_loss(model, mse, rows())))
    assert not hasattr(model, "last")
    batch = rows(5)
    torch.testing.assert_close(program.module(check_guards=False)(**batch), mse(model, batch))


def test_one_example_is_enough() -> None:
    model = nn.Linear(3, 2)
    program = torch.export.load(io.BytesIO(export_loss(model, mse, rows(1))))
    batch = rows(5)
    torch.testing.assert_close(program.module(check_guards=False)(**batch), mse(model, batch))


class Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


class Masking(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[x[:, 0] > 0])


class Frozen(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).view(4, 2)


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


class Dropping(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.5))


class Counting(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.unsqueeze(1))[0][:, 0]


class Caching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


class Guarded(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            shift = super().forward(x)
        return super().forward(x) - shift.mean()


class WritingItsInput(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


class Overwriting(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x).exp()
        y += 1
        return y


REFUSALS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout layer": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), r"model\.eval\(\)"),
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), r"model\.eval\(\)"),
    "dropout function": (lambda: Dropping(3, 2), "dropout is active"),
    "branch on a value": (lambda: Branching(3, 2), r"torch\.where"),
    "size from a value": (lambda: Masking(3, 2), "masks"),
    "fixed batch size": (lambda: Frozen(3, 2), r"x\.shape\[0\]"),
    "noise": (lambda: Noisy(3, 2), "noise"),
    "writes a buffer": (Counting, "calls"),
    "writes its input": (lambda: WritingItsInput(3, 2), "write to a copy"),
    "overwrites in place": (lambda: Overwriting(3, 2), r"write y = y \+ x instead of y \+= x"),
    "lstm": (Recurrent, "LSTMCell"),
    "no_grad": (lambda: Guarded(3, 2), "detach"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_analysed_is_refused_with_what_to_change(case: str) -> None:
    make, words = REFUSALS[case]
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ExportError, match=words):
        export_loss(model, mse, rows_without_random_numbers())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


LOSSES: dict[str, tuple[Callable[[nn.Module, Batch], object], str]] = {
    "vector": (lambda model, batch: model(batch["x"]).sum(1), "scalar"),
    "number": (lambda model, batch: 3.0, "float"),
    "integer": (lambda model, batch: model(batch["x"]).argmax(), "scalar"),
    "detached": (lambda model, batch: model(batch["x"]).sum().detach(), "does not depend"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_that_is_none_is_refused(case: str) -> None:
    loss, words = LOSSES[case]
    with pytest.raises(ExportError, match=words):
        export_loss(nn.Linear(3, 2), loss, rows())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"x": torch.ones(())},
        {"x": torch.ones(3, 3), "y": torch.ones(4, 2)},
        {"a b": torch.ones(2)},
        {"x": torch.ones(0, 3)},
    ],
)
def test_a_batch_without_common_rows_is_refused(batch: Batch) -> None:
    with pytest.raises(ExportError):
        export_loss(nn.Linear(3, 2), mse, batch)


class Tagger(nn.Module):
    """Token ids in, with the embedding tied to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(4, 11, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.drop(self.embedding(tokens)).tanh())


def tagged(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return (
        torch.randint(11, (count, 5), generator=generator),
        torch.randint(11, (count, 5), generator=generator),
    )


def tagging_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    tokens, tags = batch
    return functional.cross_entropy(model(tokens).flatten(0, 1), tags.flatten())


def test_a_tuple_of_integers_and_a_declared_mode_are_exported_with_tied_weights() -> None:
    model = Tagger()
    program = torch.export.load(io.BytesIO(export_loss(model, tagging_loss, tagged(3), mode="eval")))
    assert model.training, "the mode is that of the export alone"
    model.eval()
    for count in (2, 7):
        tokens, tags = tagged(count)
        found = program.module(check_guards=False)(inputs=tokens, targets=tags)
        torch.testing.assert_close(found, tagging_loss(model, (tokens, tags)))


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (torch.ones(4, 3), ["inputs"]),
        ((torch.ones(4, 3),), ["inputs"]),
        ([torch.ones(4, 3), torch.ones(4, 2)], ["inputs", "targets"]),
        ((torch.ones(4, 3), torch.ones(4, 2), torch.ones(4)), ["input_0", "input_1", "input_2"]),
        ({"x": torch.ones(4, 3), "y": torch.ones(4, 2)}, ["x", "y"]),
    ],
)
def test_the_program_and_the_data_of_a_job_give_a_batch_the_same_names(example: object, names: list[str]) -> None:
    def loss(model: nn.Module, batch: object) -> Tensor:
        kind = next(kind for kind in (dict, (tuple, list), Tensor) if isinstance(example, kind))
        assert isinstance(batch, kind)
        parts = list(named(batch).values())
        found = model(parts[0])
        weight = parts[2].mean() if len(parts) > 2 else 1.0
        return weight * (found - (parts[1] if len(parts) > 1 else 1.0)).square().mean()

    program = torch.export.load(io.BytesIO(export_loss(nn.Linear(3, 2), loss, example)))
    assert list(program.graph_signature.user_inputs) == names
    _, upload = prepare(example, what="data")
    assert sorted(load(b"".join(upload.body.chunks()))) == sorted(names)


def test_an_entry_that_is_no_tensor_is_named() -> None:
    with pytest.raises(ExportError, match="use_cache is none: give it inside the loss function"):
        export_loss(nn.Linear(3, 2), mse, {**rows(), "use_cache": False})  # type: ignore[dict-item]


def test_a_mistake_in_the_loss_function_is_shown_as_it_is() -> None:
    with pytest.raises(KeyError, match="z"):
        export_loss(nn.Linear(3, 2), lambda model, batch: model(batch["z"]).sum(), rows())


def test_the_module_is_imported_without_torch() -> None:
    code = "import saddlescope.client.export, sys; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
