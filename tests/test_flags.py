"""Lightning's flags and callbacks: the run does what they ask for, and the table stays true."""

import json
import re
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from conftest import RUN, Fails, Run, checkpoint_of, events_of, hparams_of, results_of, shows

from lit_imdb.model.network import SentimentRNN

# an epoch has 9 batches


def test_validations_within_an_epoch_are_told_as_what_they_are(fit: Run) -> None:
    fit("--max_epochs", 4, "--model.lr", 0.3, "--trainer.val_check_interval", 2)
    results, step = results_of(RUN), checkpoint_of(RUN, "best")["global_step"]
    assert step % 9, "the best one is to be within an epoch: choose another rate"
    assert results["best_epoch"] == round(step / 9, 2)
    accuracies = [point.value for point in events_of(RUN).Scalars("val/acc")]
    assert len(accuracies) == 4 * 4
    assert results["val_acc"] == max(accuracies)


def test_without_checkpoints_the_last_weights_are_what_the_table_tells_of(fit: Run) -> None:
    done = fit("--max_epochs", 5, "--model.lr", 0.3, "--trainer.enable_checkpointing", "false")
    assert "5, the best was -" in done.out
    accuracies, losses = (
        [point.value for point in events_of(RUN).Scalars(tag)] for tag in ("val/acc", "val/loss")
    )
    assert max(accuracies) in accuracies[:-1], "an earlier one is to be the best: another rate"
    assert results_of(RUN)["val_loss"] == losses[-1]


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("loggers", [["CSVLogger"], ["TensorBoardLogger", "CSVLogger"]])
def test_a_run_of_another_logger_has_results_and_is_the_newest(
    loggers: list[str], fit: Run, works: Run
) -> None:
    made = [{"class_path": name, "init_args": {"save_dir": f"my{name}"}} for name in loggers]
    stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}
    mine = {"trainer": {"logger": made, "callbacks": [stop]}}
    Path("mine.yaml").write_text(yaml.safe_dump(mine))
    done = fit("--max_epochs", 1, "--config", "mine.yaml")
    assert ("view with" in done.out) == ("TensorBoardLogger" in loggers)
    folder = Path(f"my{loggers[0]}/lightning_logs/version_0")
    tested = works("test", "--accelerator", "cpu").out
    assert shows(tested, folder)
    assert f"{folder}/checkpoints/best.ckpt" in "".join(re.findall(r"[\w./-]+", tested))
    newest = json.loads(works("runs", "--json").out)[-1]
    assert newest["run"] == "logs/imdb/version_1"
    assert newest["changed"]["trainer.callbacks"] == "EarlyStopping(monitor=val/loss)"
    works("fit", "--ckpt_path", "last", "--max_epochs", 2)
    assert folder.with_name("version_1").exists() == (loggers[0] == "CSVLogger")


def test_overfitting_has_the_same_batches_in_every_epoch(fit: Run) -> None:
    nothing_learned = ("--model.lr", 1e-30, "--model.dropout", 0)
    lines = ("--report", "true", "--trainer.log_every_n_steps", 1)
    fit("--trainer.overfit_batches", 2, "--max_epochs", 3, *nothing_learned, *lines)
    losses = [point.value for point in events_of(RUN).Scalars("train/loss")]
    assert losses[:2] * 3 == losses
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("split", "command"), [("val", "validate"), ("test", "test")])
def test_a_run_without_validation_or_test_says_so(
    split: str, command: str, fit: Run, fails: Fails
) -> None:
    none = (f"--trainer.limit_{split}_batches", 0)
    done = fit(*none, "--report", "true")
    assert "- (loss -)" in done.out
    results = results_of(RUN)
    assert [name for name in ("val", "test") if results[f"{name}_acc"] is None] == [split]
    assert ("there is no report.html" in done.err) == (split == "test")
    assert f"leave out {none[0]} 0" in fails(command, "--ckpt_path", "last", *none)


def test_epochs_without_a_line_in_the_log_have_no_training_figures(fit: Run) -> None:
    lines = fit("--max_epochs", 4, "--trainer.log_every_n_steps", 15).err.splitlines()
    shown = ["train loss" in line for line in lines if line.startswith("epoch")]
    assert shown == [False, True, False, True]


def test_accumulated_batches_have_masks_of_their_own_and_one_line_a_step(
    fit: Run,
) -> None:
    flags = ("--trainer.accumulate_grad_batches", 4, "--trainer.log_every_n_steps", 1)
    with patch.object(
        SentimentRNN, "draw_masks", autospec=True, side_effect=SentimentRNN.draw_masks
    ) as draw:
        fit("--report", "true", *flags)
    seeds = [call.args[2].initial_seed() for call in draw.call_args_list]
    assert len(set(seeds)) == len(seeds) == 18
    for tag in ("train/loss", "train/gradient_norm"):  # an epoch has steps of 4, 4 and 1 batches
        assert [event.step for event in events_of(RUN).Scalars(tag)] == [0, 1, 2, 3, 4, 5]


# --- callbacks that change weights or settings ---


def flags_of(callback: str) -> list[str]:
    """A callback and its settings, as they are typed."""
    name, *settings = callback.split()
    return [f"--trainer.callbacks={name}", *(f"--trainer.callbacks.{each}" for each in settings)]


@pytest.mark.parametrize(
    "callback",
    [
        "EMAWeightAveraging decay=0.9",
        "StochasticWeightAveraging swa_lrs=0.01 swa_epoch_start=1",
        "ModelPruning pruning_fn=l1_unstructured amount=0.3",
    ],
)
def test_fit_ends_with_the_metrics_that_test_gives_and_resumes(
    callback: str, fit: Run, works: Run
) -> None:
    assert "warning" not in fit("--model.lr", "0.002", *flags_of(callback)).err
    assert shows(works("test", "--config", RUN / "config.yaml").out, RUN)
    works("predict", "--text", "great")
    works("fit", "--ckpt_path", "last", "--max_epochs", "3")
    (kept,) = yaml.safe_load((RUN / "config.yaml").read_text())["trainer"]["callbacks"]
    assert kept["class_path"].split(".")[-1] == callback.split()[0]


@pytest.mark.parametrize(
    ("callback", "group", "name"),
    [
        ("LearningRateFinder num_training_steps=20", "model", "lr"),
        ("BatchSizeFinder max_trials=2", "data", "batch_size"),
    ],
)
def test_what_a_callback_found_is_what_is_reported_and_resumed_with(
    callback: str, group: str, name: str, fit: Run, works: Run
) -> None:
    done = fit(*flags_of(callback))
    found = results_of(RUN)[f"found_{name}"]
    assert found not in (0.02, 16)
    assert f"{name} found" in done.out
    assert yaml.safe_load((RUN / "hparams.yaml").read_text())[name] == found
    assert hparams_of(RUN)[name].number_value == found
    resumed = works("fit", "--ckpt_path", "last", "--max_epochs", "3")
    assert "callbacks" not in resumed.err  # it does not look again
    assert results_of(RUN)["config"]["fit"][group][name] == found


def test_a_progress_bar_of_ones_own_is_the_one_that_is_shown(fit: Run) -> None:
    done = fit("--trainer.enable_progress_bar", "true", *flags_of("TQDMProgressBar"))
    assert "it/s" in done.out + done.err
