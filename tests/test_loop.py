"""The short way through a step does and counts what Lightning's own does."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import (
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
)
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.model.module import LitSentiment
from lit_imdb.training import loop
from lit_imdb.training.loop import _HOOKS, use_plain_loop

OTHERS = ("on_train_start", "on_train_epoch_start", "on_validation_start", "on_validation_end",
          "on_train_epoch_end", "on_train_end")  # fmt: skip
BATCHES = 9  # of an epoch
MAY_LOG = ("on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step")

pytestmark = pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # Lightning's


class Recorder(Callback):
    """Writes down every call with all that it can see, and logs where that is allowed."""

    def __init__(self) -> None:
        self.seen: list[Any] = []


def _recorder_of(name: str) -> Callable[..., None]:
    def hook(self: Recorder, trainer: Any, module: Any, *arguments: Any) -> None:
        gradients = [p.grad is not None for p in module.parameters()]
        loops = str(trainer._checkpoint_connector._get_loops_state_dict())
        figures = {k: float(v) for k, v in trainer.callback_metrics.items()}
        place = (trainer.global_step, trainer.fit_loop.batch_idx, trainer.is_last_batch)
        inside = (name, module._current_fx_name, torch.is_grad_enabled())
        self.seen.append((inside, place, [plain(a) for a in arguments], gradients, figures, loops))
        if name in MAY_LOG and trainer.global_step % 3 == 1:
            module.log(name, float(trainer.global_step), prog_bar=True)

    return hook


for _name in (*_HOOKS, *OTHERS):
    setattr(Recorder, _name, _recorder_of(_name))


class WithoutZeroGrad(Recorder):
    """Leaves the loop free to set gradients to None before the forward."""

    on_before_zero_grad = Callback.on_before_zero_grad


def plain(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.requires_grad, argument.tolist()
    if isinstance(argument, dict):
        return {key: plain(value) for key, value in argument.items()}
    if isinstance(argument, tuple | list):
        return [plain(value) for value in argument]
    return argument if isinstance(argument, int | float | str) else type(argument)


class Run(NamedTuple):
    seen: list[Any]
    log: str
    checkpoint: dict[str, Any]


def fit(
    folder: Path, corpus: Path, plain_loop: bool, ckpt_path: Path | None = None, **settings: Any
) -> Run:
    seed_everything(1)
    recorder = settings.pop("recorder", Recorder)()
    callbacks = [recorder, *settings.pop("callbacks", [])]
    usual = {"max_epochs": 3, "log_every_n_steps": 3, "accelerator": "cpu"}
    trainer = Trainer(
        **usual | {"enable_checkpointing": False} | settings,
        callbacks=callbacks,
        logger=CSVLogger(folder, version=0),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if plain_loop:
        use_plain_loop(trainer)
    data = ImdbDataModule(str(corpus), vocab_size=60, max_length=8, batch_size=16)
    lit = LitSentiment(60, 8, 8, lr=0.02)
    trainer.fit(lit, data, ckpt_path=ckpt_path, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    log = (folder / "lightning_logs/version_0/metrics.csv").read_text()
    return Run(recorder.seen, log, torch.load(folder / "last.ckpt", weights_only=True))


@pytest.fixture
def lightnings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that Lightning's own loop takes."""
    steps: list[int] = []
    advance = _TrainingEpochLoop.advance

    def counted(self: Any, data_fetcher: Any) -> None:
        steps.append(self.global_step)
        advance(self, data_fetcher)

    monkeypatch.setattr(_TrainingEpochLoop, "advance", counted)
    return steps


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"val_check_interval": 2, "max_steps": 20},
        {"val_check_interval": timedelta(microseconds=1), "max_epochs": 2},
        {"limit_val_batches": 0},
    ],
    ids=" ".join,
)
def test_everything_is_done_and_counted_as_lightning_does(
    tmp_path: Path, corpus: Path, lightnings: list[int], settings: dict[str, Any]
) -> None:
    usual = fit(tmp_path / "usual", corpus, plain_loop=False, **settings)
    assert len(lightnings) > 10
    lightnings.clear()
    short = fit(tmp_path / "short", corpus, plain_loop=True, **settings)
    assert lightnings == []
    assert {name for (name, *_), *_ in short.seen} >= set(_HOOKS)
    assert "train/loss" in short.log
    assert_same(short, usual)


def test_gradients_may_go_where_nobody_looks(tmp_path: Path, corpus: Path) -> None:
    usual = fit(tmp_path / "usual", corpus, plain_loop=False, recorder=WithoutZeroGrad)
    short = fit(tmp_path / "short", corpus, plain_loop=True, recorder=WithoutZeroGrad)
    assert short.seen
    assert_same(short, usual)


def assert_same(short: Run, usual: Run) -> None:
    assert short.seen == usual.seen
    assert short.log == usual.log
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(short.checkpoint[part], usual.checkpoint[part], atol=0, rtol=0)
    assert short.checkpoint["loops"] == usual.checkpoint["loops"]


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_batch_end", "on_train_epoch_end"])
def test_a_resumed_run_goes_on_as_on_lightnings_loop(
    tmp_path: Path, corpus: Path, hook: str
) -> None:
    saved = tmp_path / "saved.ckpt"

    def save(trainer: Trainer, *_: Any) -> None:
        if not saved.exists() and trainer.global_step > 3:
            trainer.save_checkpoint(saved)

    settings: dict[str, Any] = {"val_check_interval": 2}
    saver = LambdaCallback(**{hook: save})  # type: ignore[arg-type]
    fit(tmp_path / "first", corpus, plain_loop=False, callbacks=[saver], **settings)
    usual = fit(tmp_path / "usual", corpus, plain_loop=False, ckpt_path=saved, **settings)
    short = fit(tmp_path / "short", corpus, plain_loop=True, ckpt_path=saved, **settings)
    assert_same(short, usual)


def test_validations_counted_over_epochs_go_on_within_one(tmp_path: Path, corpus: Path) -> None:
    saved = fit(tmp_path / "first", corpus, False, max_epochs=1, limit_train_batches=5)
    torch.save(saved.checkpoint, tmp_path / "saved.ckpt")
    settings: dict[str, Any] = {"check_val_every_n_epoch": None, "val_check_interval": BATCHES}
    usual = fit(tmp_path / "usual", corpus, False, tmp_path / "saved.ckpt", **settings)
    short = fit(tmp_path / "short", corpus, True, tmp_path / "saved.ckpt", **settings)
    validated = [batch for (name, *_), (_, batch, _), *_ in usual.seen if name == OTHERS[2]]
    assert 0 < validated[0] < BATCHES - 1, validated
    assert_same(short, usual)


def test_a_run_that_is_to_stop_validates_and_stops(
    tmp_path: Path, corpus: Path, lightnings: list[int]
) -> None:
    def stop(trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 5

    stopping = LambdaCallback(on_train_batch_end=stop)
    usual = fit(tmp_path / "usual", corpus, plain_loop=False, callbacks=[stopping])
    lightnings.clear()
    short = fit(tmp_path / "short", corpus, plain_loop=True, callbacks=[stopping])
    assert lightnings == []
    assert short.checkpoint["global_step"] == 5
    assert_same(short, usual)


@pytest.mark.parametrize("plain_loop", [False, True])
def test_a_run_that_got_sigterm_ends_after_its_step(
    tmp_path: Path, corpus: Path, plain_loop: bool
) -> None:
    steps: list[int] = []

    def arrive(trainer: Any, *_: Any) -> None:
        steps.append(trainer.global_step)
        trainer._signal_connector.received_sigterm = trainer.global_step == 5

    arriving = LambdaCallback(on_train_batch_end=arrive)
    with pytest.raises(SIGTERMException):
        fit(tmp_path, corpus, plain_loop, callbacks=[arriving])
    assert steps == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("every", "written"),
    [
        ({"every_n_train_steps": 5}, 5),
        ({"train_time_interval": timedelta(microseconds=1)}, 3 * BATCHES),
        ({"every_n_epochs": 1}, 3),
    ],
    ids=str,
)
def test_lightnings_checkpoint_callback_saves_when_it_would(
    tmp_path: Path, corpus: Path, every: dict[str, Any], written: int
) -> None:
    files = []
    for plain_loop in (False, True):
        folder = tmp_path / str(plain_loop)
        own = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **every)
        fit(folder, corpus, plain_loop, callbacks=[own], enable_checkpointing=True)
        files.append({path.name for path in folder.glob("step*.ckpt")})
    assert files[0] == files[1]
    assert len(files[0]) == written


def test_callbacks_may_change_the_loss_and_ask_for_accumulation(
    tmp_path: Path, corpus: Path
) -> None:
    def penalise(trainer: Trainer, module: LitSentiment, loss: Tensor) -> None:
        loss += 1.0

    def accumulate(trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            trainer.accumulate_grad_batches = 2

    changing = LambdaCallback(on_before_backward=penalise, on_train_batch_end=accumulate)  # type: ignore[arg-type]
    usual = fit(tmp_path / "usual", corpus, plain_loop=False, callbacks=[changing])
    short = fit(tmp_path / "short", corpus, plain_loop=True, callbacks=[changing])
    assert_same(short, usual)


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_clip_val": 0.1},
        {"accumulate_grad_batches": 2},
        {"callbacks": [GradientAccumulationScheduler({1: 2})]},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"profiler": "simple"},
    ],
    ids=" ".join,
)
def test_what_is_no_plain_step_is_lightnings(
    tmp_path: Path, corpus: Path, lightnings: list[int], settings: dict[str, Any]
) -> None:
    fit(tmp_path, corpus, plain_loop=True, **settings)
    scheduled = "callbacks" in settings  # from the second epoch on
    assert (lightnings[0] > 0) == scheduled


def test_another_model_data_module_or_lightning_gets_lightnings_loop(
    tmp_path: Path, corpus: Path, lightnings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OtherModel(LitSentiment):
        pass

    class OtherData(ImdbDataModule):
        pass

    def steps(change: Callable[[LitSentiment], Any] = id, data: Any = ImdbDataModule,
              model: Any = LitSentiment, **settings: Any) -> int:  # fmt: skip
        lightnings.clear()
        lit = model(60, 8, 8)
        change(lit)
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        settings |= {"accelerator": "cpu", "enable_checkpointing": False}
        trainer = Trainer(max_steps=2, **quiet, **settings)
        use_plain_loop(trainer)
        trainer.fit(lit, data(str(corpus), vocab_size=60, max_length=8, batch_size=16))
        return len(lightnings)

    def schedule(lit: Any) -> None:
        optimizer = torch.optim.SGD(lit.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        lit.configure_optimizers = lambda: ([optimizer], [schedule])

    def wait_for_plateau(lit: Any) -> None:
        optimizer = torch.optim.SGD(lit.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        asked.append(0)
        schedule.step = lambda *_: asked.append(asked.pop() + 1)  # type: ignore[method-assign]
        plan = {"scheduler": schedule, "interval": "step", "monitor": "train/loss"}
        lit.configure_optimizers = lambda: ([optimizer], [plan])

    asked: list[int] = []

    called: list[int] = []
    assert steps() == 0
    assert steps(model=OtherModel) == 2
    assert steps(data=OtherData) == 2
    assert steps(fast_dev_run=2) == 2
    assert steps(schedule) == 2
    assert steps(wait_for_plateau, log_every_n_steps=1) == 2
    assert asked == [2]
    assert steps(lambda lit: setattr(lit, "on_after_backward", lambda: called.append(1))) == 2
    assert called == [1, 1]
    clip = LitSentiment.configure_gradient_clipping
    assert steps(lambda lit: setattr(lit, "configure_gradient_clipping", clip.__get__(lit))) == 2
    moved: list[int] = []

    def data_with_hook(*arguments: Any, **settings: Any) -> ImdbDataModule:
        data = ImdbDataModule(*arguments, **settings)
        data.on_before_batch_transfer = lambda batch, index: moved.append(index) or batch  # type: ignore
        return data

    assert steps(data=data_with_hook) == 2
    assert moved[:2] == [0, 0]
    monkeypatch.setattr(loop, "version", "2.7.0")
    assert steps() == 2


def test_a_function_that_a_callback_was_given_is_called(tmp_path: Path, corpus: Path) -> None:
    started: list[int] = []
    given = LambdaCallback(on_train_batch_start=lambda *a: started.append(a[-1]))
    given.on_train_batch_end = None  # type: ignore[assignment]  # Lightning passes over it, too
    run = fit(tmp_path, corpus, plain_loop=True, max_epochs=1, callbacks=[given])
    assert started == list(range(run.checkpoint["global_step"]))
