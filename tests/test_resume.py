"""A run that is cut off goes on as if it had not been."""

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import (
    REPORTED,
    ROOT,
    RUN,
    SHORT,
    TINY,
    Fails,
    Run,
    make_reviews,
    results_of,
    write_csv,
)
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from benchmarks import crash
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.model.module import LitSentiment


@pytest.fixture(autouse=True)
def event_files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard orders a process's files of one second by their numbers as text, 10 before 9."""
    counter = event_file_writer.AtomicCounter(10**6)
    monkeypatch.setattr(event_file_writer, "_global_uid", counter)


# --- cut off ---


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_bit_identical(tmp_path: Path) -> None:
    corpus = write_csv(tmp_path / "large.csv", make_reviews(500))
    size = ("--data.batch_size", "64", "--max_epochs", "4")  # two threads have work each
    steps = ("--checkpoint_every_n_steps", "5", "--trainer.log_every_n_steps", "3")
    arguments = (*REPORTED, *size, *steps, "--data.source", str(corpus))
    assert crash.run(runs=2, seed=1, arguments=arguments) == []


@contextmanager
def dying(method: str, batch: int, kill: Callable[[], None]) -> Iterator[None]:
    """`LitSentiment`'s `method` calls `kill` when the run has taken `batch` training batches."""
    as_it_is = getattr(LitSentiment, method)

    def deadly(self: LitSentiment, *args: Any) -> Tensor:
        if self.trainer.fit_loop.epoch_loop.batch_progress.total.completed == batch:
            kill()
        result: Tensor = as_it_is(self, *args)
        return result

    setattr(LitSentiment, method, deadly)
    try:
        yield
    finally:
        setattr(LitSentiment, method, as_it_is)


def power_loss() -> None:
    (RUN / "checkpoints/.last.ckpt.tmp").write_bytes(b"half a checkpoint")
    raise RuntimeError("power")


terminate = partial(os.kill, os.getpid(), signal.SIGTERM)
interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
Cut = tuple[str, int, Callable[[], None], int]

_EVERY_THIRD = ("--checkpoint_every_n_steps", "3")
# Flags, and where, after how many of 9 batches an epoch, and how their run ends with which status.
CUTS: dict[str, tuple[list[str], list[Cut]]] = {
    "validated within epochs, with a checkpoint callback of one's own": (
        [
            *TINY,
            *("--trainer.val_check_interval", "3", *_EVERY_THIRD),
            *("--trainer.log_every_n_steps", "4", "--max_epochs", "3"),
            *("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val/loss"),
            "--trainer.callbacks.save_top_k=3",
        ],
        [
            ("training_step", 4, power_loss, 1),
            ("validation_step", 6, power_loss, 1),
            ("training_step", 15, terminate, 143),  # a step with a line in the log
            ("training_step", 20, interrupt, 130),
        ],
    ),
    "batches accumulated, every second epoch validated": (
        [
            *TINY,
            *("--trainer.accumulate_grad_batches", "4", "--checkpoint_every_n_steps", "1"),
            *("--trainer.val_check_interval", "1", "--trainer.check_val_every_n_epoch", "2"),
        ],
        [
            ("training_step", 5, power_loss, 1),
            ("training_step", 2, terminate, 143),
            ("training_step", 14, power_loss, 1),
        ],
    ),
    **{
        f"configs/{recipe}.yaml": (
            [*SHORT, "--config", str(ROOT / f"configs/{recipe}.yaml"), *_EVERY_THIRD],
            [("training_step", 13, power_loss, 1)],
        )
        for recipe in ("accurate", "ngrams")
    },
}


@pytest.mark.parametrize("flags", CUTS)
def test_a_run_cut_off_anywhere_and_resumed_ends_bit_identical(
    flags: str, run: Run, corpus: Path, tmp_path: Path
) -> None:
    extra, cuts = CUTS[flags]
    args = ("fit", *extra, "--data.source", corpus)
    assert run(*args).status == 0
    for number, (method, batch, kill, status) in enumerate(cuts):
        folder = tmp_path / str(number)
        folder.mkdir()
        os.chdir(folder)
        with dying(method, batch, kill):
            stopped = run(*args)
        assert stopped.status == status, stopped
        resume = [*args, "--ckpt_path", "last"]
        if status != 1:  # the step was finished and saved, and the last line says how to go on
            last = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
            taken = last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
            assert batch < taken <= batch + 4
            advice = shlex.split(stopped.err.splitlines()[-1].split("`")[1])
            resume = advice[advice.index("fit") :]
            assert resume[-1] == str(RUN / "checkpoints/last.ckpt")
        assert run(*resume).status == 0
        assert crash.differences(tmp_path, folder) == [], (method, batch)


# --- the settings of a resumed run ---


def test_the_seed_of_a_resumed_run_is_its_own(run: Run, fails: Fails, corpus: Path) -> None:
    args = ("fit", *TINY, "--data.source", corpus)
    assert run(*args, "--seed_everything", "3", "--max_epochs", "1").status == 0
    resume = ("--ckpt_path", "last", "--max_epochs", "2")
    line = fails(*args, *resume, "--seed_everything", "5")
    assert "--seed_everything 5" in line
    assert "leave it out" in line
    assert run(*args, *resume).status == 0
    assert run(*args, "--seed_everything", "3").status == 0
    resumed, whole = results_of(RUN), results_of(RUN.with_name("version_1"))
    for name in ("seed", "best_epoch", "val_loss", "test_loss"):
        assert whole[name] == resumed[name], name


def test_a_run_goes_on_from_another_folder_with_its_best_checkpoint(
    run: Run, finished: Path, tmp_path: Path
) -> None:
    best = (finished / "checkpoints/best.ckpt").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    os.chdir("elsewhere")
    ruin = ("--max_epochs", "3", "--model.lr", "9", "--report", "false")
    last = Path("..", finished, "checkpoints/last.ckpt")
    assert run("fit", "--ckpt_path", last, *ruin).status == 0
    results = results_of(Path("..", finished))
    assert results["epochs"] == 3
    assert results["best_epoch"] <= 2
    assert Path("..", finished, "checkpoints/best.ckpt").read_bytes() == best


def test_nothing_trained_yet_is_said_and_an_older_run_is_left_alone(
    finished: Path, fails: Fails
) -> None:
    finished.with_name("version_1").mkdir()  # a run that was killed before its first step
    assert "no last checkpoint in logs/imdb/version_1" in fails("fit", "--ckpt_path", "last")


def test_a_loss_that_is_nan_stops_the_run_and_spares_the_checkpoints(
    run: Run, finished: Path
) -> None:
    before = {path: path.read_bytes() for path in (finished / "checkpoints").iterdir()}
    every = ("--trainer.log_every_n_steps", "1")
    done = run("fit", "--ckpt_path", "last", "--max_epochs", "4", "--model.lr", "1e39", *every)
    assert done.status == 2
    line = done.err.splitlines()[-1]
    assert "NaN or infinite" in line
    assert "--model.lr" in line
    assert before == {path: path.read_bytes() for path in (finished / "checkpoints").iterdir()}


def test_a_full_disk_leaves_the_old_checkpoint(
    run: Run, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in (finished / "checkpoints").iterdir()}

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    done = run("fit", "--ckpt_path", "last", "--max_epochs", "3")
    assert done.status == 2
    assert "No space left" in done.err.splitlines()[-1]
    assert before == {path: path.read_bytes() for path in (finished / "checkpoints").iterdir()}


def test_a_run_resumes_with_its_own_settings_and_says_what_differs(run: Run, corpus: Path) -> None:
    flags = ["--trainer.gradient_clip_val", "0.5", "--checkpoint_every_n_steps", "3"]
    assert run(*TINY, *flags, "--data.source", corpus).status == 0
    changes = ["--max_epochs", "3", "--model.lr", "0.5"]
    done = run("fit", "--ckpt_path", "last", *changes, "--trainer.enable_progress_bar", "true")
    assert done.status == 0, done
    expected = {"model.lr 0.5 (was 0.02)", "trainer.max_epochs 3 (was 2)"}
    expected |= {"trainer.enable_progress_bar True (was False)"}
    (line,) = (line for line in done.err.splitlines() if line.startswith("warning"))
    assert set(line.partition("than before: ")[2].split(", ")) == expected
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["trainer"]["gradient_clip_val"] == 0.5
    assert config["checkpoint_every_n_steps"] == 3
    assert config["ckpt_path"] is None
    assert yaml.safe_load((RUN / "hparams.yaml").read_text())["lr"] == 0.5
    checkpoint = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    assert results_of(RUN)["epochs"] == 3
    assert not RUN.with_name("version_1").exists()


def test_a_config_file_wins_over_the_runs_own_and_a_flag_over_both(
    run: Run, finished: Path
) -> None:
    Path("mine.yaml").write_text(
        "model: {lr: 0.5, dropout: 0.1}\n"
        "trainer: {max_epochs: 3, gradient_clip_val: 2}\n"
        "report: false\n"
    )
    flags = ["--config", "mine.yaml", "--trainer.gradient_clip_val", "3"]
    assert run("fit", "--ckpt_path", "last", *flags).status == 0
    config = results_of(RUN)["config"]["fit"]
    assert (config["model"]["lr"], config["model"]["dropout"]) == (0.5, 0.1)
    assert (config["trainer"]["max_epochs"], config["trainer"]["gradient_clip_val"]) == (3, 3)


def test_a_finished_run_says_so_and_what_to_give(run: Run, fails: Fails, finished: Path) -> None:
    line = fails("fit", "--ckpt_path", "last")
    assert "logs/imdb/version_0 has finished" in line
    flags = line.split("for example ")[1].split()
    assert run("fit", "--ckpt_path", "last", *flags, "--report", "false").status == 0
    assert results_of(RUN)["epochs"] == 4


def test_a_run_cut_off_in_its_final_test_is_not_finished(run: Run, finished: Path) -> None:
    before = results_of(finished)
    (finished / "results.json").unlink()
    assert run("fit", "--ckpt_path", "last", "--report", "false").status == 0
    assert results_of(finished)["test_loss"] == before["test_loss"]


@pytest.mark.parametrize(
    "change",
    [
        ("--data.max_length", "20"),
        ("--data.tokenizer", "basic_english"),
        ("--data.val_fraction", "0.3"),
        ("--data.source", "other.csv"),
    ],
    ids=" ".join,
)
def test_a_run_never_mixes_metrics_of_different_data(
    change: tuple[str, str], fails: Fails, finished: Path
) -> None:
    line = fails("fit", "--ckpt_path", "last", "--max_epochs", "3", *change)
    assert " ".join(change) in line
    assert "without --ckpt_path" in line


class OwnOptimizer(LitSentiment):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class OwnSchedule(LitSentiment):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)]


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning", "ignore:Checkpoint directory")
@pytest.mark.parametrize(
    ("model", "lr", "expected"),
    [
        (OwnOptimizer, 0.5, 0.1),
        (OwnSchedule, 0.02, 0.02 * 0.1**2),
        (LitSentiment, 0.02, 0.02),
        (LitSentiment, 0.5, 0.5),
    ],
)
def test_a_learning_rate_changes_only_where_it_was_asked_for_and_is_the_modules_own(
    model: type[LitSentiment], lr: float, expected: float, corpus: Path
) -> None:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}

    def trainer(epochs: int) -> Trainer:
        kept = ModelCheckpoint(dirpath="own", save_last=True)
        return Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[kept], **quiet)  # type: ignore

    def data() -> ImdbDataModule:
        return ImdbDataModule(str(corpus), vocab_size=60, max_length=8, batch_size=16)

    small = {"vocab_size": 60, "embedding_dim": 8, "hidden_dim": 8}
    trainer(1).fit(model(lr=0.02, **small), data())
    resumed = trainer(2)
    resumed.fit(model(lr=lr, **small), data(), ckpt_path="own/last.ckpt", weights_only=True)
    assert resumed.optimizers[0].param_groups[0]["lr"] == pytest.approx(expected)
