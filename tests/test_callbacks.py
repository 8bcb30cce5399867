"""Lightning's callbacks that change weights or settings: what is printed is of what is kept."""

import pytest
import yaml
from conftest import RUN, Run, hparams_of, results_of, shows


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
