"""Lightning's own flags: the run does what they ask for, and the table stays true."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import RUN, Fails, Run, results_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lit_imdb.data.loader import Batch
from lit_imdb.model.module import LitSentiment
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import Masks


def test_validations_within_an_epoch_are_told_as_what_they_are(fit: Run) -> None:
    # an epoch has 9 steps
    fit("--max_epochs", 4, "--model.lr", 0.3, "--trainer.val_check_interval", 2)
    results = results_of(RUN)
    best = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] % 9, "the best one is to be within an epoch: choose another rate"
    assert results["best_epoch"] == round(best["global_step"] / 9, 2)
    checked = next(s for n, s in best["callbacks"].items() if n.startswith("ModelCheckpoint"))
    assert results["val_acc"] == float(checked["best_model_score"])
    last = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert len(last["callbacks"]["History"]["validations"]) == 4 * 4


def test_without_checkpoints_the_last_weights_are_what_the_table_tells_of(fit: Run) -> None:
    done = fit("--max_epochs", 5, "--model.lr", 0.3, "--trainer.enable_checkpointing", "false")
    assert "5, the best was -" in done.out
    seen = EventAccumulator(str(RUN)).Reload()
    accuracies = [point.value for point in seen.Scalars("val/acc")]
    assert max(accuracies) in accuracies[:-1], "an earlier one is to be the best: another rate"
    assert results_of(RUN)["val_loss"] == seen.Scalars("val/loss")[-1].value


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("loggers", [["CSVLogger"], ["TensorBoardLogger", "CSVLogger"]])
def test_a_run_of_another_logger_has_results_and_is_the_newest(
    loggers: list[str], fit: Run, run: Run
) -> None:
    made = [{"class_path": name, "init_args": {"save_dir": f"my{name}"}} for name in loggers]
    Path("mine.yaml").write_text(yaml.safe_dump({"trainer": {"logger": made}}))
    done = fit("--max_epochs", 1, "--config", "mine.yaml")
    assert ("view with" in done.out) == ("TensorBoardLogger" in loggers)
    folder = Path(f"my{loggers[0]}/lightning_logs/version_0")
    tested = run("test", "--accelerator", "cpu")
    assert f"{results_of(folder)['test_loss']:.4f}" in tested.out
    assert f"{folder}/checkpoints/best.ckpt" in "".join(re.findall(r"[\w./-]+", tested.out))


def test_overfitting_has_the_same_batches_in_every_epoch(
    fit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, step = [], LitSentiment.training_step

    def watched(lit: LitSentiment, batch: Batch, batch_idx: int) -> Tensor:
        seen.append(batch[0].tolist())
        return step(lit, batch, batch_idx)

    monkeypatch.setattr(LitSentiment, "training_step", watched)
    fit("--trainer.overfit_batches", 2, "--max_epochs", 3)
    assert seen[:2] * 3 == seen
    assert seen[0] != seen[1]


def test_a_run_without_a_test_batch_says_so(fit: Run, fails: Fails) -> None:
    none = ("--trainer.limit_test_batches", 0)
    done = fit(*none, "--report", "true")
    assert "- (loss -)" in done.out
    assert "there is no report.html" in done.err
    assert "leave out --trainer.limit_test_batches 0" in fails("test", *none)


def test_epochs_without_a_line_in_the_log_have_no_training_figures(fit: Run) -> None:
    fit("--max_epochs", 4, "--trainer.log_every_n_steps", 15)  # an epoch has 9 steps
    last = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    epochs = last["callbacks"]["History"]["epochs"]
    assert ["train/acc" in epoch for epoch in epochs] == [False, True, False, True]


def test_accumulated_batches_have_masks_of_their_own_and_one_line_a_step(
    fit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, draw = [], SentimentRNN.draw_masks

    def drawn(net: SentimentRNN, reviews: int, generator: torch.Generator) -> Masks:
        seeds.append(generator.initial_seed())
        return draw(net, reviews, generator)

    monkeypatch.setattr(SentimentRNN, "draw_masks", drawn)
    flags = ("--trainer.accumulate_grad_batches", 4, "--trainer.log_every_n_steps", 1)
    fit("--report", "true", *flags)
    assert len(set(seeds)) == len(seeds) == 18
    events = EventAccumulator(str(RUN)).Reload()
    for tag in ("train/loss", "train/gradient_norm"):  # an epoch has steps of 4, 4 and 1 batches
        assert [event.step for event in events.Scalars(tag)] == [0, 1, 2, 3, 4, 5]
