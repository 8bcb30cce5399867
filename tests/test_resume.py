"""A run that is cut off goes on as if it had not been."""

import os
import shlex
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import torch
import yaml
from conftest import ROOT, RUN, TINY, Fails, Run, checkpoint_of, make_reviews, results_of, write_csv
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from benchmarks import crash
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
    arguments = (*TINY, *size, *steps, "--report", "true", "--data.source", str(corpus))
    assert crash.run(runs=2, seed=1, arguments=arguments) == []


def die_in(method: str, batch: int, status: int) -> Any:
    """Have `LitSentiment`'s `method` end the run once `batch` training batches are taken."""
    as_it_is = getattr(LitSentiment, method)

    def deadly(self: LitSentiment, *args: Any) -> Tensor:
        if self.trainer.fit_loop.epoch_loop.batch_progress.total.completed == batch:
            if status == POWER_LOSS:
                (RUN / "checkpoints/.last.ckpt.tmp").write_bytes(b"half a checkpoint")
                raise RuntimeError("power")
            os.kill(os.getpid(), status - 128)
        return as_it_is(self, *args)

    return patch.object(LitSentiment, method, deadly)


POWER_LOSS, TERMINATED, INTERRUPTED = 1, 143, 130
IN_AN_EPOCH = [("training_step", 13, POWER_LOSS)]

# Flags, and where, after how many of 9 batches an epoch, and with which status their run ends.
CUTS = {
    # validated within epochs, with a checkpoint callback of one's own
    "--trainer.val_check_interval 3 --checkpoint_every_n_steps 3 --trainer.log_every_n_steps 4 "
    "--max_epochs 3 --trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val/loss "
    "--trainer.callbacks.save_top_k=3": [
        ("training_step", 4, POWER_LOSS),
        ("validation_step", 6, POWER_LOSS),
        ("training_step", 15, TERMINATED),  # a step with a line in the log
        ("training_step", 20, INTERRUPTED),
    ],
    "--trainer.accumulate_grad_batches 4 --checkpoint_every_n_steps 1 "
    "--trainer.val_check_interval 1 --trainer.check_val_every_n_epoch 2": [
        ("training_step", 5, POWER_LOSS),
        ("training_step", 2, TERMINATED),
        ("training_step", 14, POWER_LOSS),
    ],
    f"--config {ROOT}/configs/accurate.yaml --checkpoint_every_n_steps 3": IN_AN_EPOCH,
    f"--config {ROOT}/configs/ngrams.yaml --checkpoint_every_n_steps 3": IN_AN_EPOCH,
}


@pytest.mark.parametrize("flags", CUTS, ids=["within epochs", "accumulated", "accurate", "ngrams"])
def test_a_run_cut_off_anywhere_and_resumed_ends_bit_identical(
    flags: str, run: Run, works: Run, corpus: Path, tmp_path: Path
) -> None:
    args = ("fit", *TINY, *flags.split(), "--data.source", corpus)
    works(*args)
    for number, (method, batch, status) in enumerate(CUTS[flags]):
        folder = tmp_path / str(number)
        folder.mkdir()
        os.chdir(folder)
        with die_in(method, batch, status):
            stopped = run(*args)
        assert stopped.status == status, stopped
        resume = [*args, "--ckpt_path", "last"]
        if (
            status != POWER_LOSS
        ):  # the step was finished and saved, and the last line says how to go on
            progress = checkpoint_of(RUN)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            assert batch < progress["total"]["processed"] <= batch + 4
            advice = shlex.split(stopped.err.splitlines()[-1].split("`")[1])
            resume = advice[advice.index("fit") :]
            assert resume[-1] == str(RUN / "checkpoints/last.ckpt")
        works(*resume)
        assert crash.differences(tmp_path, folder) == [], (method, batch)


# --- the settings of a resumed run ---


def test_nothing_trained_yet_is_said_and_an_older_run_is_left_alone(
    finished: Path, fails: Fails
) -> None:
    finished.with_name("version_1").mkdir()  # a run that was killed before its first step
    assert "no last checkpoint in logs/imdb/version_1" in fails("fit", "--ckpt_path", "last")


@pytest.mark.parametrize("said", ["NaN or infinite", "No space left"])
def test_a_diverging_run_and_a_full_disk_are_one_line_and_leave_the_old_checkpoints(
    said: str, run: Run, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted((finished / "checkpoints").iterdir())
    before = [path.read_bytes() for path in files]
    flags = ["--max_epochs", "4"]
    if said == "No space left":
        full = OSError(28, "No space left on device")
        monkeypatch.setattr(torch, "save", Mock(side_effect=full))
    else:
        flags += ["--model.lr", "1e39", "--trainer.log_every_n_steps", "1"]
    done = run("fit", "--ckpt_path", "last", *flags)
    assert done.status == 2
    assert said in done.err.splitlines()[-1]
    assert sorted((finished / "checkpoints").iterdir()) == files
    assert [path.read_bytes() for path in files] == before


def test_a_run_resumes_with_its_own_settings_below_a_config_file_and_flags_and_says_what_differs(
    fit: Run, works: Run
) -> None:
    own = ("--trainer.gradient_clip_val", "0.5", "--checkpoint_every_n_steps", "3")
    fit(*own, "--seed_everything", "3")
    Path("mine.yaml").write_text("trainer: {max_epochs: 9, enable_progress_bar: true}\n")
    changes = ["--config", "mine.yaml", "--max_epochs", "3", "--model.lr", "0.5"]
    done = works("fit", "--ckpt_path", "last", *changes)
    expected = {"model.lr 0.5 (was 0.02)", "trainer.max_epochs 3 (was 2)"}
    expected |= {"trainer.enable_progress_bar True (was False)"}
    (line,) = (line for line in done.err.splitlines() if line.startswith("warning"))
    assert set(line.partition("than before: ")[2].split(", ")) == expected
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["trainer"]["gradient_clip_val"] == 0.5
    assert config["checkpoint_every_n_steps"] == 3
    assert config["ckpt_path"] is None
    assert checkpoint_of(RUN)["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    results = results_of(RUN)
    assert (results["epochs"], results["seed"]) == (3, 3)
    assert not RUN.with_name("version_1").exists()


def test_a_run_cut_off_in_its_final_test_is_tested_and_a_finished_one_says_what_to_give(
    works: Run, fails: Fails, finished: Path
) -> None:
    resume = ("fit", "--ckpt_path", "last", "--report", "false")
    before = results_of(finished)
    (finished / "results.json").unlink()
    works(*resume)
    assert results_of(finished)["test_loss"] == before["test_loss"]
    line = fails(*resume)
    assert "logs/imdb/version_0 has finished" in line
    works(*resume, *line.split("for example ")[1].split())
    assert results_of(finished)["epochs"] == 4


@pytest.mark.parametrize(
    "change",
    [
        *("--data.max_length 20", "--data.tokenizer basic_english", "--data.val_fraction 0.3"),
        *("--data.source other.csv", "--seed_everything 5"),
    ],
)
@pytest.mark.usefixtures("finished")
def test_a_run_never_mixes_metrics_of_different_data_or_seeds(change: str, fails: Fails) -> None:
    line = fails("fit", "--ckpt_path", "last", "--max_epochs", "3", *change.split())
    assert change in line
    assert "without --ckpt_path" in line


class OwnOptimizer(LitSentiment):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)]


def test_another_rate_leaves_an_optimizer_of_ones_own_as_it_is(fit: Run, works: Run) -> None:
    fit("--model", "test_resume.OwnOptimizer", *TINY[-6:])  # another class drops the sizes
    works("fit", "--ckpt_path", "last", "--max_epochs", "3", "--model.lr", "0.5")
    (group,) = checkpoint_of(RUN)["optimizer_states"][0]["param_groups"]
    assert group["lr"] == pytest.approx(0.1 * 0.1**3)
