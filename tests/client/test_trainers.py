"""The callbacks in the trainers they are made for; where a trainer is not installed, in a loop that calls them as it does."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from callback_models import NOWHERE, waiting_in
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from examples.embedded import running_service
from saddlescope import Client, export_loss
from saddlescope.callbacks import HuggingFaceCallback, LightningCallback, Plateau


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_service(tmp_path_factory.mktemp("trainers") / "data") as address:
        yield address


class Rows(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(row)
        return {"x": torch.randn(3, generator=generator), "y": torch.randn(2, generator=generator)}


class Regressor(nn.Module):
    """As a Trainer wants it: the loss comes out of forward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": functional.mse_loss(self.net(x), y)}


def whole() -> dict[str, Tensor]:
    rows = [Rows()[number] for number in range(len(Rows()))]
    return {name: torch.stack([row[name] for row in rows]) for name in ("x", "y")}


def regression_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch)["loss"]


def steps_of(url: str, run: str) -> list[int]:
    with Client(url) as client:
        return sorted(job.info.run.step for job in client.jobs(run=run))


def test_the_trainer_of_transformers_asks_by_its_steps_and_learns_the_verdict(url: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        model, answers = Regressor(), []
        callback = HuggingFaceCallback(
            loss=export_loss(model, regression_loss, whole()),
            data=whole(),
            run="trainer",
            every=20,
            url=url,
            spool=tmp_path / "spool",
            on_verdict=lambda answer, training: answers.append((answer.step, training.model is model)),
        )
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=100_000,
            per_device_train_batch_size=4,
            logging_steps=10,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )

        class Until(transformers.TrainerCallback):
            def on_step_end(self, args, state, control, **_: object) -> None:
                time.sleep(0.002)
                control.should_training_stop = bool(answers)

        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[callback, Until()])
        trainer.train()
    assert answers[0] == (20, True)
    assert callback.observer.num_failures == 0
    assert steps_of(url, "trainer")[0] == 20


def test_events_of_transformers_that_mean_nothing_here_are_taken(tmp_path: Path) -> None:
    callback = HuggingFaceCallback(loss="w", run="r", url=NOWHERE, spool=tmp_path)
    assert callback.on_event_of_a_later_version(1, 2, 3, model=None) is None
    with pytest.raises(AttributeError):
        _ = callback.something_else


def test_a_plateau_is_seen_in_the_losses_that_transformers_logs(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    callback = HuggingFaceCallback(
        loss="sum(weight)", run="r", plateau=Plateau(window=100), url=NOWHERE, spool=tmp_path
    )
    for step in range(1, 501):
        state = SimpleNamespace(global_step=step)
        callback.on_step_end(None, state, None, model=model)
        if step % 50 == 0:
            callback.on_log(None, state, None, logs={"loss": 1.0, "learning_rate": 0.1})
    callback.on_train_end(None, state, None)
    assert waiting_in(tmp_path) >= 1


def test_lightnings_trainer_asks_by_its_steps_and_learns_the_verdict(url: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("pytorch_lightning")
        answers: list[int] = []

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = Regressor()

            def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
                time.sleep(0.002)
                return self.model(**batch)["loss"]

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), lr=1e-3)

            def on_train_batch_end(self, *_: object) -> None:
                self.trainer.should_stop = bool(answers)

        module = Module()
        callback = LightningCallback(
            loss=export_loss(module.model, regression_loss, whole()),
            data=whole(),
            run="lightning",
            every=20,
            url=url,
            spool=tmp_path / "spool",
            select=lambda trained: trained.model,
            on_verdict=lambda answer, training: answers.append(answer.step),
        )
        trainer = lightning.Trainer(
            max_epochs=-1,
            callbacks=[callback],
            accumulate_grad_batches=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, DataLoader(Rows(), batch_size=4))
    assert answers[0] == 20
    assert callback.observer.num_failures == 0


class Loop:
    """Lightning's calls in Lightning's order, with its gradient accumulation: `global_step` counts optimizer steps."""

    def __init__(self, module: nn.Module, callback: LightningCallback) -> None:
        self.module, self.callback = module, callback
        self.global_step = 0
        self.optimizers = [torch.optim.SGD(module.parameters(), lr=1e-3)]
        self.lr_scheduler_configs: list[object] = []

    def fit(self, num_batches: int, *, accumulate: int) -> None:
        self.callback.setup(self, self.module, "fit")
        self.callback.on_fit_start(self, self.module)
        self.callback.on_train_start(self, self.module)
        for number in range(num_batches):
            self.callback.on_train_batch_start(self, self.module, whole(), number)
            loss = regression_loss(self.module, whole())
            loss.backward()
            if (number + 1) % accumulate == 0:
                self.optimizers[0].step()
                self.optimizers[0].zero_grad()
                self.global_step += 1
            self.callback.on_train_batch_end(self, self.module, {"loss": loss}, whole(), number)
            time.sleep(0.001)
        self.callback.on_train_end(self, self.module)
        self.callback.teardown(self, self.module, "fit")


def test_a_loop_that_calls_as_lightning_does_is_asked_about_at_optimizer_steps(url: str, tmp_path: Path) -> None:
    model = Regressor()
    program = export_loss(model, regression_loss, whole())
    callback = LightningCallback(loss=program, data=whole(), run="loop", every=10, url=url, spool=tmp_path)
    Loop(model, callback).fit(40, accumulate=4)
    assert callback.state_dict() == {}
    assert callback.observer.num_failures == 0
    assert steps_of(url, "loop") == [10]
