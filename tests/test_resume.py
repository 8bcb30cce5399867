"""A run that is cut off goes on as if it had not been."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT, TINY, Output, results_of
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from benchmarks import crash
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.model.module import LitSentiment

Run = Callable[..., Output]
Fails = Callable[..., str]
Deadly = AbstractContextManager[None]
RUN = Path("logs/imdb/version_0")
LONG = [*TINY, "--max_epochs", "3", "--checkpoint_every_n_steps", "2"]


@pytest.fixture(autouse=True)
def event_files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard orders a process's files of one second by their numbers as text, 10 before 9."""
    counter = event_file_writer.AtomicCounter(10**6)
    monkeypatch.setattr(event_file_writer, "_global_uid", counter)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted, in the form that the crash test compares with."""
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder, "fit").wait() == 0, (folder / "log.txt").read_text()
    return folder


def start(folder: Path, *args: str, threads: int = 1) -> "subprocess.Popen[bytes]":
    folder.mkdir(exist_ok=True)
    log = (folder / "log.txt").open("ab")
    command = [sys.executable, str(ROOT / "train.py"), *args, *crash.ARGUMENTS]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def wait_for_step(folder: Path, process: "subprocess.Popen[bytes]", least: int) -> None:
    """Waits until the run has written a checkpoint at `least` steps or more."""
    last = folder / "logs/imdb/version_0/checkpoints/last.ckpt"
    while process.poll() is None:
        if last.is_file() and torch.load(last, weights_only=True)["global_step"] >= least:
            return
        time.sleep(0.02)
    pytest.fail(f"the run ended before step {least}: {(folder / 'log.txt').read_text()}")


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_bit_identical() -> None:
    assert crash.run(runs=4, seed=1) == []


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_run(whole: Path, tmp_path: Path) -> None:
    assert start(tmp_path, "fit", threads=3).wait() == 0, (tmp_path / "log.txt").read_text()
    assert crash.differences(whole, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_say_how_to_go_on_and_lose_nothing(
    tmp_path: Path, whole: Path, signum: signal.Signals, status: int
) -> None:
    folder = tmp_path / "stopped"
    process = start(folder, "fit")
    wait_for_step(folder, process, 20)
    process.send_signal(signum)
    assert process.wait(20) == status
    advice = (folder / "log.txt").read_text().splitlines()[-1].split("`")[1]
    *_, name, path = shlex.split(advice)
    assert (name, path) == ("--ckpt_path", "logs/imdb/version_0/checkpoints/last.ckpt")
    done = subprocess.run([sys.executable, ROOT / "train.py", *shlex.split(advice)[2:]], cwd=folder,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)  # fmt: skip
    assert done.returncode == 0
    assert crash.differences(whole, folder) == []


@pytest.mark.slow
def test_a_half_written_temporary_checkpoint_is_never_read(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "power_loss"
    process = start(folder, "fit")
    wait_for_step(folder, process, 20)
    process.kill()
    process.wait()
    (folder / "logs/imdb/version_0/checkpoints/.last.ckpt.tmp").write_bytes(b"half a file")
    assert start(folder, "fit", "--ckpt_path", "last").wait() == 0
    assert crash.differences(whole, folder) == []


def both(run: Run, args: tuple[object, ...], deadly: Deadly, latest: int) -> list[str]:
    """Differences between a whole run and one that `deadly` cut off, at step `latest` or before,
    and that was resumed."""
    whole, cut_off = Path.cwd() / "whole", Path.cwd() / "cut_off"
    for folder in (whole, cut_off):
        folder.mkdir()
        os.chdir(folder)
        if folder is cut_off:
            with deadly:
                assert run(*args).status != 0
            last = torch.load("logs/imdb/version_0/checkpoints/last.ckpt", weights_only=True)
            assert last["global_step"] <= latest
            args = (*args, "--ckpt_path", "last")
        assert run(*args).status == 0
    return crash.differences(whole, cut_off)


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


def fail() -> None:
    raise RuntimeError("power")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# Where, after how many of 9 batches an epoch, how, and with which flags.
CUTS: dict[str, tuple[str, int, Callable[[], None], tuple[str, ...]]] = {
    "between validations": (
        *("training_step", 4, fail),
        ("--trainer.val_check_interval", "3", "--checkpoint_every_n_steps", "3"),
    ),
    "in a validation within the epoch": (
        *("validation_step", 6, fail),
        ("--trainer.val_check_interval", "3", "--checkpoint_every_n_steps", "3"),
    ),
    "between accumulated batches": (
        *("training_step", 5, fail),
        ("--trainer.accumulate_grad_batches", "4", "--checkpoint_every_n_steps", "1"),
    ),
    "stopped between accumulated batches": (
        *("training_step", 4, terminate),
        ("--trainer.accumulate_grad_batches", "4"),
    ),
    "stopped at a line in the log": (
        *("training_step", 11, terminate),
        ("--trainer.log_every_n_steps", "4"),
    ),
    "with a checkpoint callback of one's own": (
        *("training_step", 20, fail),
        (
            *("--max_epochs", "4", "--trainer.callbacks+=ModelCheckpoint"),
            *("--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.save_top_k=3"),
        ),
    ),
    "stopped where no epoch is validated": (
        *("training_step", 2, terminate),
        ("--trainer.val_check_interval", "1", "--trainer.check_val_every_n_epoch", "2"),
    ),
}


@pytest.mark.parametrize("cut", CUTS)
def test_other_flags_are_resumed_exactly_too(cut: str, run: Run, corpus: Path) -> None:
    method, batch, kill, flags = CUTS[cut]
    args = ("fit", *TINY, "--data.source", corpus, *flags)
    assert both(run, args, dying(method, batch, kill), batch + 1) == []


def test_the_seed_of_a_resumed_run_is_its_own(run: Run, fails: Fails, corpus: Path) -> None:
    args = ("fit", *TINY, "--data.source", corpus)
    for folder, start in (("whole", ("--max_epochs", "3")), ("resumed", ())):
        (corpus.parent / folder).mkdir()
        os.chdir(corpus.parent / folder)
        assert run(*args, "--seed_everything", "3", *start).status == 0
    line = fails(*args, "--max_epochs", "3", "--ckpt_path", "last", "--seed_everything", "5")
    assert "--seed_everything 5" in line
    assert "leave it out" in line
    assert run(*args, "--max_epochs", "3", "--ckpt_path", "last").status == 0
    whole, resumed = (
        results_of(corpus.parent / folder / "logs/imdb/version_0")
        for folder in ("whole", "resumed")
    )
    for name in ("seed", "best_epoch", "val_loss", "test_loss"):
        assert whole[name] == resumed[name], name


def test_a_run_goes_on_from_another_folder_with_its_best_checkpoint(run: Run, corpus: Path) -> None:
    (corpus.parent / "a").mkdir()
    os.chdir(corpus.parent / "a")
    args = ("fit", *TINY, "--data.source", corpus, "--model.lr", "0.3")
    assert run(*args).status == 0
    os.chdir("..")
    folder = Path("a/logs/imdb/version_0")
    best = (folder / "checkpoints/best.ckpt").read_bytes()
    last = folder / "checkpoints/last.ckpt"
    assert run(*args, "--ckpt_path", last, "--max_epochs", "5").status == 0
    assert json.loads((folder / "results.json").read_text())["best_epoch"] <= 2, "another rate"
    assert (folder / "checkpoints/best.ckpt").read_bytes() == best


def test_nothing_trained_yet_is_said_and_an_older_run_is_left_alone(
    run: Run, fails: Fails, corpus: Path
) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    Path("logs/imdb/version_1").mkdir()  # a run that was killed before its first step
    assert "python train.py fit" in fails("fit", "--ckpt_path", "last")


def test_a_loss_that_is_nan_stops_the_run_and_spares_the_checkpoints(
    run: Run, corpus: Path
) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    folder = Path("logs/imdb/version_0/checkpoints")
    before = {name: (folder / name).read_bytes() for name in ("best.ckpt", "last.ckpt")}
    done = run(
        *("fit", "--ckpt_path", "last", "--max_epochs", "4", "--model.lr", "1e39"),
        *("--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"),
    )
    assert done.status == 2
    line = done.err.splitlines()[-1]
    assert "NaN or infinite" in line
    assert "--model.lr" in line
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_a_full_disk_leaves_the_old_checkpoint(
    run: Run,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    last = Path("logs/imdb/version_0/checkpoints/last.ckpt")
    before = last.read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", no_space)
    done = run("fit", "--ckpt_path", "last", *LONG, "--data.source", corpus)
    assert done.status == 2
    assert "No space left" in done.err.splitlines()[-1]
    assert last.read_bytes() == before
    assert not last.with_name(".last.ckpt.tmp").exists()


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


def test_a_config_file_wins_over_the_runs_own_and_a_flag_over_both(run: Run, corpus: Path) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    Path("mine.yaml").write_text(
        "model: {lr: 0.5, dropout: 0.1}\ntrainer: {max_epochs: 3, gradient_clip_val: 2}\n"
    )
    flags = ["--config", "mine.yaml", "--trainer.gradient_clip_val", "3"]
    assert run("fit", "--ckpt_path", "last", *flags).status == 0
    config = results_of(RUN)["config"]["fit"]
    assert (config["model"]["lr"], config["model"]["dropout"]) == (0.5, 0.1)
    assert (config["trainer"]["max_epochs"], config["trainer"]["gradient_clip_val"]) == (3, 3)


def test_a_finished_run_says_so_and_what_to_give(run: Run, fails: Fails, corpus: Path) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    line = fails("fit", "--ckpt_path", "last")
    assert "logs/imdb/version_0 is finished after 2 epochs" in line
    flags = line.split("for example ")[1].split()
    assert run("fit", "--ckpt_path", "last", *flags).status == 0
    assert results_of(RUN)["epochs"] == 4


def test_a_run_cut_off_in_its_final_test_is_not_finished(run: Run, corpus: Path) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    before = results_of(RUN)
    (RUN / "results.json").unlink()
    assert run("fit", "--ckpt_path", "last").status == 0
    assert results_of(RUN)["test_loss"] == before["test_loss"]


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
    change: tuple[str, str], run: Run, fails: Fails, corpus: Path
) -> None:
    shutil.copy(corpus, "other.csv")
    assert run(*TINY, "--data.source", corpus).status == 0
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


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize(
    ("model", "lr", "expected"),
    [
        (OwnOptimizer, 0.02, 0.1),
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


def test_a_resumed_run_reports_all_its_epochs(run: Run, corpus: Path) -> None:
    assert run(*TINY, "--data.source", corpus).status == 0
    assert run("fit", "--ckpt_path", "last", "--max_epochs", "3").status == 0
    results = json.loads(Path("logs/imdb/version_0/results.json").read_text())
    assert results["epochs"] == 3
    assert not Path("logs/imdb/version_1").exists()
