"""The command line: every form of it, and what it leaves behind."""

import json
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml
from conftest import ROOT, RUN, Fails, Run, Trained, make_reviews, results_of, shows, write_csv

import lit_imdb
from lit_imdb.arguments import COMMANDS

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- fit ---


def test_without_a_command_it_fits_tests_and_prints_one_table(trained: Trained) -> None:
    table = trained.output.out
    for expected in ("corpus.csv", "train 144, val 16, test 40", "parameters", "per epoch"):
        assert expected in table
    assert shows(table, trained.run, "val")
    assert shows(table, trained.run, "test")
    assert "logs/imdb/version_0/report.html" in table
    assert "tensorboard --logdir logs" in table


def test_a_run_folder_holds_what_the_readme_says(trained: Trained) -> None:
    named = {"config.yaml", "hparams.yaml", "results.json", "report.html", "events"}
    named |= {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert {re.sub("^events.*", "events", name) for name in files_in(trained.run)} == named
    assert {path.name for path in trained.folder.iterdir()} == {"cache", "corpus.csv", "logs"}


def test_results_json_holds_the_figures_and_where_they_come_from(trained: Trained) -> None:
    results = results_of(trained.run)
    expected = {
        **{"source": str(trained.corpus), "reviews": {"train": 144, "val": 16, "test": 40}},
        "parameters": 60 * 8 + 2 * (8 * 8 + 8 * 8 + 8) + 9,
        **{"epochs": 2, "seed": 1, "device": "cpu"},
    }
    assert expected.items() <= results.items()
    for name in ("val_acc", "test_acc"):
        assert 0.9 <= results[name] <= 1, name  # the words are easily learned
    assert results["seconds"] > results["seconds_per_epoch"] > 0
    assert results["config"]["fit"]["data"]["batch_size"] == 16
    assert {"torch", "pytorch-lightning", "torchtext", "python"} <= set(results["versions"])
    assert {"git_commit", "git_dirty"} <= set(results)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(
    fit: Run, trained: Trained
) -> None:
    for seed in (1, 4):
        fit("--seed_everything", seed)
    runs = (trained.run, RUN, RUN.with_name("version_1"))
    first, again, other = (results_of(folder)["test_loss"] for folder in runs)
    assert first == again != other


# monitors the same as this program's own
CALLBACK = ("+=ModelCheckpoint", ".monitor=val/acc", ".mode=max")


@pytest.mark.parametrize("callback", [(), CALLBACK], ids=["alone", "beside one's own"])
def test_the_best_checkpoint_is_the_one_that_fit_validate_and_test_evaluate(
    callback: tuple[str, ...], fit: Run, works: Run, workspace: Path
) -> None:
    # A rate that spoils the network later on: the last weights are not the best ones.
    fit("--max_epochs", 5, "--model.lr", 0.3, *(f"--trainer.callbacks{part}" for part in callback))
    best = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == results_of(RUN)["best_epoch"] - 1 < 4
    before = files_in(workspace)
    for command, split in (("validate", "val"), ("test", "test")):
        assert shows(works(command, "--accelerator", "cpu").out, RUN, split)
    assert files_in(workspace) == before


@pytest.mark.parametrize("flag", ["--fast_dev_run", "--trainer.barebones"])
def test_a_quick_check_leaves_no_run_behind(flag: str, fit: Run, workspace: Path) -> None:
    done = fit(flag, "true")
    assert "keep nothing" in done.out
    assert "warning" not in done.err
    assert {path.name for path in workspace.iterdir()} == {"cache", "corpus.csv"}


def test_a_later_run_is_the_newest_and_another_root_folder_is_kept_to(fit: Run, works: Run) -> None:
    root = ["--trainer.default_root_dir", "elsewhere"]
    for number in range(11):  # version_10 comes after version_9
        Path(f"elsewhere/logs/imdb/version_{number}").mkdir(parents=True)
    fit(*root, "--max_epochs", 1)
    assert Path("elsewhere/logs/imdb/version_11/checkpoints/best.ckpt").is_file()
    assert not Path("logs").exists()
    assert "version_11" in works("test", *root, "--ckpt_path", "last", "--accelerator", "cpu").out


def test_a_terminal_shows_the_epochs_above_a_bar_of_one_line_that_counts_every_batch(
    fit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no colours
    monkeypatch.setattr("conftest.Stream.isatty", lambda self: True)
    done = fit("--trainer.enable_progress_bar", "true", "--trainer.log_every_n_steps", 1)
    line = next(line for line in done.err.splitlines() if line.startswith("Epoch 2/2"))
    # 9 batches: the last is not one at which the bar is drawn anyway
    assert re.search(r" 9/9 .* loss: [\d.]+ acc: [\d.]+ val/acc: [\d.]+ *$", line), line
    assert len(line) <= 80
    assert re.search(r"^epoch 2/2  train loss", done.err, re.MULTILINE)


# --- settings ---


@pytest.mark.parametrize("config", CONFIGS)
def test_every_command_takes_every_config_which_trains(config: str, works: Run, fit: Run) -> None:
    path = ROOT / "configs" / config
    expected = yaml.safe_load(path.read_text())
    for command in COMMANDS:
        printed = yaml.safe_load(works(command, "--config", path, "--print_config").out)
        assert expected.get("data", {}).items() <= printed["data"]["init_args"].items()
        assert expected.get("trainer", {}).items() <= printed["trainer"].items()
    fit("--config", path, "--trainer.limit_train_batches", 2)


def test_a_printed_config_and_a_runs_own_can_be_used_again(fit: Run, works: Run) -> None:
    own = ["--max_epochs", "1", "--trainer.callbacks+=ModelCheckpoint", "--devices", "1"]
    own += ["--precision=bf16-mixed", "--trainer.gradient_clip_val=1"]
    own += ["--trainer.plugins", "AsyncCheckpointIO"]
    Path("mine.yaml").write_text(fit(*own, "--print_config").out)
    works("--config", "mine.yaml")
    saved = ("--config", RUN / "config.yaml")
    assert shows(works("test", *saved).out, RUN)
    works("fit", *saved)
    again = results_of(RUN.with_name("version_1"))
    assert results_of(RUN)["test_loss"] == again["test_loss"]


def test_flags_win_over_later_configs_over_earlier_ones_over_the_checkpoint_over_defaults(
    works: Run, trained: Trained, best: Path
) -> None:
    from lit_imdb.cli import CLI

    Path("one.yaml").write_text("data: {val_fraction: 0.2}\nmodel: {dropout: 0.2, lr: 0.2}\n")
    Path("two.yaml").write_text("data: {batch_size: 6}\nmodel: {dropout: 0.3, lr: 0.3}\n")
    configs = ("--config", "one.yaml", "--config", "two.yaml", "--ckpt_path", best)
    flags = ("--data.batch_size", "7", "--data.source", trained.corpus, "--model.lr", "0.4")
    with patch.object(CLI, "test", autospec=True) as test:
        works("test", *configs, *flags)
    (cli,) = test.call_args.args
    seen = {**cli.datamodule.hparams, **cli.model.hparams}
    expected = {
        **{"batch_size": 7, "lr": 0.4},  # the command line's
        **{"val_fraction": 0.2, "dropout": 0.3},  # the configs'
        **{"hidden_dim": 8, "max_length": 8, "vocab_size": 60},  # the checkpoint's
        "tokenizer": "words",  # the default
    }
    assert expected.items() <= seen.items()


# --- other commands ---


def test_a_checkpoint_alone_is_enough_in_another_folder(works: Run, best: Path) -> None:
    shutil.copy(best, "alone.ckpt")
    # The same reviews in another order of words and frequencies would get other ids if the
    # vocabulary were built from these.
    reviews = make_reviews(60, seed=5)
    write_csv(Path("other.csv"), [(text.replace("film", "film zebra"), y) for text, y in reviews])
    alone = ("--ckpt_path", "alone.ckpt", "--accelerator", "cpu", "--data.source", "other.csv")
    tested = works("test", *alone).out
    assert float(re.search(r"test accuracy .*?([\d.]+)%", tested)[1]) > 90


def test_runs_lists_every_run_by_date_with_what_differs_and_marks_the_best(
    works: Run, fails: Fails, trained: Trained
) -> None:
    for number in range(3):
        shutil.copytree(trained.run, RUN.with_name(f"version_{number}"))
    (RUN.with_name("version_1") / "results.json").unlink()
    worse = {**results_of(RUN), "val_acc": 0.25, "date": "2025-01-01T00:00:00"}
    (RUN.with_name("version_2") / "results.json").write_text(json.dumps(worse))
    found = json.loads(works("runs", "--json").out)
    assert [each["best"] for each in found] == [False, False, True]
    assert found[2]["changed"]["model.lr"] == 0.02
    assert "model.vocab_size" not in found[2]["changed"]
    lines = works("runs").out.splitlines()
    cut_off, worst, best = (line for line in lines if "version" in line)
    assert "not finished" in cut_off
    assert "*" not in worst
    assert f"{results_of(RUN)['val_acc']:.2%} *" in best
    assert "lr\xa00.02" in best
    assert "no run in nowhere" in fails("runs", "--folder", "nowhere")


def test_the_packages_names_are_there() -> None:
    assert all(hasattr(lit_imdb, name) for name in lit_imdb.__all__)
    assert not hasattr(lit_imdb, "Nothing")
