"""The command line: every form of it, and what it leaves behind."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, RUN, TINY, Run, Stream, Trained, make_reviews, results_of, write_csv

import lit_imdb
from lit_imdb.arguments import COMMANDS

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- fit ---


def test_without_a_command_it_fits_tests_and_prints_one_table(trained: Trained) -> None:
    for expected in (
        *("source", "corpus.csv", "train 144, val 16, test 40", "parameters", "epochs"),
        *("val accuracy", "test accuracy", "loss", "per epoch", "total"),
        *("logs/imdb/version_0/report.html", "tensorboard --logdir logs"),
    ):
        assert expected in trained.output.out, expected


def test_a_run_folder_holds_what_the_readme_says(trained: Trained) -> None:
    named = {"config.yaml", "hparams.yaml", "results.json", "report.html", "events"}
    named |= {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert {re.sub("^events.*", "events", name) for name in files_in(trained.run)} == named
    assert {path.name for path in trained.folder.iterdir()} == {"cache", "corpus.csv", "logs"}


def test_results_json_holds_the_figures_and_where_they_come_from(trained: Trained) -> None:
    results = results_of(trained.run)
    assert results["source"] == str(trained.corpus)
    assert results["reviews"] == {"train": 144, "val": 16, "test": 40}
    assert results["parameters"] == 60 * 8 + 2 * (8 * 8 + 8 * 8 + 8) + 9
    assert results["epochs"] == 2
    assert results["best_epoch"] in (1, 2)
    for name in ("val_acc", "test_acc"):
        assert 0.9 <= results[name] <= 1, name  # the words are easily learned
    for name in ("val_loss", "test_loss", "seconds_per_epoch", "seconds"):
        assert results[name] > 0, name
    assert results["seed"] == 1
    assert results["device"] == "cpu"
    assert results["config"]["fit"]["data"]["batch_size"] == 16
    assert {"torch", "pytorch-lightning", "torchtext", "python"} <= set(results["versions"])
    assert {"git_commit", "git_dirty"} <= set(results)
    hparams = yaml.safe_load((trained.run / "hparams.yaml").read_text())
    assert (hparams["source"], hparams["vocab_size"]) == (str(trained.corpus), 60)


def test_the_same_seed_gives_the_same_numbers_twice_and_another_does_not(
    fit: Run, trained: Trained
) -> None:
    for seed in (1, 4):
        fit("--seed_everything", seed)
    runs = (trained.run, RUN, RUN.with_name("version_1"))
    names = ("val_loss", "test_loss", "val_acc", "test_acc")
    first, again, other = ([results_of(folder)[name] for name in names] for folder in runs)
    assert first == again != other
    assert results_of(runs[2])["seed"] == 4


# monitors the same as this program's own
CALLBACK = ("+=ModelCheckpoint", ".monitor=val/acc", ".mode=max")


@pytest.mark.parametrize("callback", [(), CALLBACK], ids=["alone", "beside one's own"])
def test_the_best_checkpoint_is_the_one_that_is_tested(
    callback: tuple[str, ...], fit: Run, run: Run
) -> None:
    # A rate that spoils the network later on: the last weights are not the best ones.
    callbacks = (f"--trainer.callbacks{part}" for part in callback)
    fit("--max_epochs", 5, "--model.lr", 0.3, *callbacks)
    results = results_of(RUN)
    best = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == results["best_epoch"] - 1 < 4
    tested = run("test", "--accelerator", "cpu").out
    assert f"{results['test_loss']:.4f}" in tested
    assert f"{results['test_acc']:.2%}" in tested


@pytest.mark.parametrize("flag", ["--fast_dev_run", "--trainer.barebones"])
def test_a_quick_check_leaves_no_run_behind(flag: str, fit: Run, workspace: Path) -> None:
    done = fit(flag, "true")
    assert "keep nothing" in done.out
    assert "warning" not in done.err
    assert {path.name for path in workspace.iterdir()} == {"cache", "corpus.csv"}


# --- forms of the command ---


@pytest.mark.parametrize("config", CONFIGS)
def test_every_command_takes_every_config_which_trains(config: str, run: Run, corpus: Path) -> None:
    path = ROOT / "configs" / config
    expected = yaml.safe_load(path.read_text())
    for command in COMMANDS:
        printed = yaml.safe_load(run(command, "--config", path, "--print_config").out)
        max_length = expected.get("data", {}).get("max_length", 80)
        assert printed["data"]["init_args"]["max_length"] == max_length
        assert expected.get("trainer", {}).items() <= printed["trainer"].items()
    small = [arg for arg in TINY if "max_epochs" not in arg and arg != "2"]
    limits = ["--trainer.limit_train_batches", "2", "--data.source", corpus]
    done = run("fit", *small, "--config", path, *limits)  # another class drops the network's sizes
    assert done.status == 0, done


def test_a_printed_config_and_a_runs_own_can_be_used_again(fit: Run, run: Run) -> None:
    own = ["--max_epochs", "1", "--trainer.callbacks+=ModelCheckpoint", "--devices", "1"]
    own += ["--precision=bf16-mixed", "--trainer.gradient_clip_val=1"]
    own += ["--trainer.plugins", "AsyncCheckpointIO"]
    Path("mine.yaml").write_text(fit(*own, "--print_config").out)
    assert run("--config", "mine.yaml").status == 0
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["model"]["init_args"]["hidden_dim"] == 8
    done = run("test", "--config", RUN / "config.yaml")
    assert f"{results_of(RUN)['test_loss']:.4f}" in done.out, done
    assert run("fit", "--config", RUN / "config.yaml").status == 0
    again = results_of(RUN.with_name("version_1"))
    assert results_of(RUN)["test_loss"] == again["test_loss"]


# --- validate, test ---


@pytest.mark.parametrize(("command", "split"), [("validate", "val"), ("test", "test")])
def test_the_newest_best_checkpoint_is_the_default(
    command: str, split: str, run: Run, finished: Path, workspace: Path
) -> None:
    before = files_in(workspace)
    done = run(command, "--accelerator", "cpu")
    results = results_of(finished)
    assert f"{results[f'{split}_acc']:.2%}" in done.out, done
    assert f"{results[f'{split}_loss']:.4f}" in done.out
    assert files_in(workspace) == before


def test_a_checkpoint_alone_is_enough_in_another_folder(run: Run, best: Path) -> None:
    """Without the training data, the run folder or the cache; with its vocabulary and settings."""
    shutil.copy(best, Path("alone.ckpt"))
    # The same reviews in another order of words and frequencies would get other ids if the
    # vocabulary were built from these.
    reviews = make_reviews(60, seed=5)
    write_csv(Path("other.csv"), [(text.replace("film", "film zebra"), y) for text, y in reviews])
    args = ["--ckpt_path", "alone.ckpt", "--data.source", "other.csv"]
    tested = run("test", "--accelerator", "cpu", *args)
    assert "other.csv" in tested.out, tested
    assert float(re.search(r"test accuracy .*?([\d.]+)%", tested.out)[1]) > 90
    predicted = run("predict", "other.csv", "--ckpt_path", "alone.ckpt")
    labels = [json.loads(line)["predicted_label"] for line in predicted.out.splitlines()]
    assert labels[:60].count("neg") >= 55, predicted
    assert labels[60:].count("pos") >= 55


def test_flags_win_over_later_configs_over_earlier_ones_over_the_checkpoint_over_defaults(
    run: Run, trained: Trained, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_imdb.cli import CLI

    seen: dict[str, object] = {}

    def note(self: CLI, **kwargs: object) -> None:
        seen.update(self.datamodule.hparams, **self.model.hparams)

    monkeypatch.setattr(CLI, "test", note)
    Path("one.yaml").write_text("data: {val_fraction: 0.2}\nmodel: {dropout: 0.2, lr: 0.2}\n")
    Path("two.yaml").write_text("data: {batch_size: 6}\nmodel: {dropout: 0.3, lr: 0.3}\n")
    configs = ("--config", "one.yaml", "--config", "two.yaml", "--ckpt_path", best)
    flags = ("--data.batch_size", "7", "--data.source", trained.corpus, "--model.lr", "0.4")
    assert run("test", *configs, *flags).status == 0
    assert (seen["batch_size"], seen["lr"]) == (7, 0.4)  # the command line's
    assert (seen["val_fraction"], seen["dropout"]) == (0.2, 0.3)  # the configs'
    assert (seen["hidden_dim"], seen["max_length"], seen["vocab_size"]) == (8, 8, 60)  # checkpoint
    assert seen["tokenizer"] == "words"  # a default


def test_a_later_run_is_the_newest_and_another_root_folder_is_kept_to(fit: Run, run: Run) -> None:
    root = ["--trainer.default_root_dir", "elsewhere"]
    for number in range(11):  # version_10 comes after version_9
        Path(f"elsewhere/logs/imdb/version_{number}").mkdir(parents=True)
    fit(*root, "--max_epochs", 1)
    assert Path("elsewhere/logs/imdb/version_11/checkpoints/best.ckpt").is_file()
    assert not Path("logs").exists()
    assert "version_11" in run("test", *root, "--ckpt_path", "last", "--accelerator", "cpu").out


def test_the_packages_names_are_there() -> None:
    assert all(getattr(lit_imdb, name) for name in lit_imdb.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        lit_imdb.Nothing  # noqa: B018


def test_a_run_without_validation_is_tested_and_reported(fit: Run) -> None:
    fit("--trainer.limit_val_batches", 0)
    results = results_of(RUN)
    assert results["val_acc"] is None
    assert results["test_acc"] > 0.5


def test_a_terminal_shows_the_epochs_above_a_bar_of_one_line_that_counts_every_batch(
    fit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no colours
    monkeypatch.setattr(Stream, "isatty", lambda self: True)
    done = fit("--trainer.enable_progress_bar", "true", "--trainer.log_every_n_steps", 1)
    batches = results_of(RUN)["reviews"]["train"] // 16  # TINY's size
    assert batches % 10  # the last batch is not one at which the bar is drawn anyway
    line = next(line for line in done.err.splitlines() if line.startswith("Epoch 2/2"))
    metrics = r"loss: [\d.]+ acc: [\d.]+ val/acc: [\d.]+"
    assert re.search(rf" {batches}/{batches} .* {metrics} *$", line), line
    assert len(line) <= 80
    assert re.search(r"^epoch 2/2  train loss", done.err, re.MULTILINE)


def test_runs_lists_every_run_with_what_differs_and_marks_the_best(
    run: Run, trained: Trained
) -> None:
    finished, worse, cut_off = (RUN.with_name(f"version_{number}") for number in range(3))
    for folder in (finished, worse, cut_off):
        shutil.copytree(trained.run, folder)
    results = results_of(worse)
    (worse / "results.json").write_text(json.dumps({**results, "val_acc": results["val_acc"] / 2}))
    (cut_off / "results.json").unlink()

    listed = {each["run"][-1]: each for each in json.loads(run("runs", "--json").out)}
    assert [listed[number]["best"] for number in "012"] == [True, False, False]
    assert listed["0"]["changed"]["model.lr"] == 0.02
    assert "model.vocab_size" not in listed["0"]["changed"]
    assert listed["2"]["test_acc"] is None
    lines = {line[:19][-1]: line for line in run("runs").out.splitlines() if "version" in line}
    assert f"{listed['0']['val_acc']:.2%} *" in lines["0"]
    assert "lr\xa00.02" in lines["0"]
    assert "*" not in lines["1"]
    assert "not finished" in lines["2"]
    assert "no run in nowhere" in run("runs", "--folder", "nowhere").err
