"""The command line: every form of it, and what it leaves behind."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import (
    ROOT,
    RUN,
    TINY,
    Run,
    Stream,
    Trained,
    make_reviews,
    results_of,
    train_py,
    write_csv,
)

from lit_imdb.arguments import COMMANDS, SHORT_FLAGS, full_arguments

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- fit ---


def test_without_a_command_it_fits_tests_and_prints_one_table(trained: Trained) -> None:
    table = trained.output.out
    for expected in (
        *("source", "corpus.csv", "train 144, val 16, test 40", "parameters", "epochs"),
        *("val accuracy", "test accuracy", "loss", "per epoch", "total"),
        *("logs/imdb/version_0/report.html", "tensorboard --logdir logs"),
    ):
        assert expected in table, expected
    assert "Error" not in trained.output.err


def test_a_run_folder_holds_what_the_readme_says(trained: Trained) -> None:
    files = files_in(trained.run)
    expected = {"config.yaml", "hparams.yaml", "results.json", "report.html"}
    assert expected | {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= files
    assert any(name.startswith("events.") for name in files)
    assert not any(name.endswith(".tmp") for name in files)
    assert files_in(trained.folder) - {f"logs/imdb/version_0/{name}" for name in files} == {
        "corpus.csv",
        *(f"cache/{name}" for name in files_in(trained.cache)),
    }


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
    run: Run, trained: Trained
) -> None:
    for seed in (1, 4):
        flags = ("--data.source", trained.corpus, "--seed_everything", seed)
        assert run("fit", *TINY, *flags).status == 0
    runs = [results_of(trained.run), results_of(RUN), results_of(RUN.with_name("version_1"))]
    figures = [tuple(r[n] for n in ("val_loss", "test_loss", "val_acc", "test_acc")) for r in runs]
    assert figures[0] == figures[1]
    assert figures[0] != figures[2]
    assert runs[2]["seed"] == 4


def test_the_best_checkpoint_is_the_one_that_is_tested(run: Run, corpus: Path) -> None:
    # A rate that spoils the network later on: the last weights are not the best ones.
    args = [*TINY, "--data.source", corpus, "--max_epochs", "5", "--model.lr", "0.3"]
    assert run("fit", *args).status == 0
    results = results_of(RUN)
    best = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == results["best_epoch"] - 1 < 4
    tested = run("test", "--accelerator", "cpu")
    assert f"{results['test_loss']:.4f}" in tested.out
    assert f"{results['test_acc']:.2%}" in tested.out


@pytest.mark.parametrize("flag", ["--fast_dev_run", "--trainer.barebones"])
def test_a_quick_check_leaves_no_run_behind(
    flag: str, run: Run, corpus: Path, workspace: Path
) -> None:
    done = run(flag, "true", *TINY, "--data.source", corpus)
    assert done.status == 0, done
    assert "keep nothing" in done.out
    assert "warning" not in done.err
    assert {name.split("/")[0] for name in files_in(workspace)} == {"cache", "corpus.csv"}


# --- forms of the command ---

FORMS = {
    "short flags": ["--accelerator=cpu", "--devices", "1", "--precision", "32-true"],
    "long flags": ["--trainer.accelerator", "cpu", "--trainer.strategy=auto"],
    "clipped in mixed precision": ["--precision=bf16-mixed", "--trainer.gradient_clip_val=1"],
    "with a writer of one's own": ["--trainer.plugins", "AsyncCheckpointIO"],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_fit_runs(form: str, run: Run, corpus: Path) -> None:
    done = run(*TINY, "--max_epochs", "1", "--data.source", corpus, *FORMS[form])
    assert done.status == 0, done
    assert results_of(RUN)["epochs"] == 1


@pytest.mark.parametrize("flag", SHORT_FLAGS)
def test_every_short_flag_means_the_long_one_on_every_command(flag: str) -> None:
    for command in COMMANDS:
        expected = [command, f"--trainer.{flag}", "x", f"--trainer.{flag}=y"]
        assert full_arguments([command, f"--{flag}", "x", f"--{flag}=y"]) == expected
        assert full_arguments(expected) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_settings(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert done.status == 0
    assert "--data.tokenizer" in done.out
    assert "--model.hidden_dim" in done.out
    assert "torchtext's" in done.out  # from the docstring


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_can_be_printed_and_trains(config: str, run: Run, corpus: Path) -> None:
    path = ROOT / "configs" / config
    printed = yaml.safe_load(run("--config", path, "--print_config").out)
    expected = yaml.safe_load(path.read_text())
    max_length = expected.get("data", {}).get("max_length", 80)
    assert printed["data"]["init_args"]["max_length"] == max_length
    for name, value in expected.get("trainer", {}).items():
        assert printed["trainer"][name] == value
    small = [arg for arg in TINY if "max_epochs" not in arg and arg != "2"]
    limits = ["--trainer.limit_train_batches", "2", "--data.source", corpus]
    done = run("fit", *small, "--config", path, *limits)  # another class drops the network's sizes
    assert done.status == 0, done


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_config(command: str, run: Run) -> None:
    for config in CONFIGS:
        done = run(command, "--config", ROOT / "configs" / config, "--print_config")
        assert done.status == 0, done


def test_a_printed_config_and_a_runs_own_can_be_used_again(run: Run, corpus: Path) -> None:
    own = ["--max_epochs", "1", "--trainer.callbacks+=ModelCheckpoint"]
    Path("mine.yaml").write_text(run(*TINY, "--data.source", corpus, *own, "--print_config").out)
    assert run("--config", "mine.yaml").status == 0
    saved = yaml.safe_load((RUN / "config.yaml").read_text())
    assert saved["model"]["init_args"]["hidden_dim"] == 8
    done = run("test", "--config", RUN / "config.yaml")
    assert f"{results_of(RUN)['test_loss']:.4f}" in done.out, done
    assert run("fit", "--config", RUN / "config.yaml").status == 0
    again = results_of(RUN.with_name("version_1"))
    assert results_of(RUN)["test_loss"] == again["test_loss"]


def test_a_flag_wins_over_a_config_and_a_later_config_over_an_earlier(
    run: Run, corpus: Path
) -> None:
    Path("one.yaml").write_text("model: {hidden_dim: 11, embedding_dim: 12}\n")
    Path("two.yaml").write_text("model: {embedding_dim: 13}\n")
    configs = ["--config", "one.yaml", "--config", "two.yaml"]
    done = run(*configs, "--model.dropout", "0.5", "--print_config")
    model = yaml.safe_load(done.out)["model"]["init_args"]
    assert (model["hidden_dim"], model["embedding_dim"], model["dropout"]) == (11, 13, 0.5)


# --- validate, test ---


@pytest.mark.parametrize("command", ["validate", "test"])
def test_the_newest_best_checkpoint_is_the_default(
    command: str, run: Run, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_in(trained.folder)
    monkeypatch.chdir(trained.folder)
    done = run(command, "--accelerator", "cpu", "--trainer.enable_progress_bar", "false")
    assert done.status == 0, done
    results = results_of(trained.run)
    split = "val" if command == "validate" else "test"
    assert f"{results[f'{split}_acc']:.2%}" in done.out
    assert f"{results[f'{split}_loss']:.4f}" in done.out
    assert {n for n in files_in(trained.folder) - before if not n.startswith("cache/")} == set()


def test_the_real_command_tests_another_source(best: Path, workspace: Path) -> None:
    other = write_csv(workspace / "other.csv", make_reviews(30, seed=9))
    args = ("--ckpt_path", best, "--data.source", other, "--accelerator", "cpu")
    done = train_py("test", *args, cwd=workspace, XDG_CACHE_HOME=str(workspace / "cache"))
    assert done.status == 0, done
    assert "other.csv" in done.out
    assert "Warning" not in done.err


def test_a_checkpoint_alone_is_enough_in_another_folder(run: Run, best: Path) -> None:
    """Without the training data, the run folder or the cache; with its vocabulary and settings."""
    shutil.copy(best, Path("alone.ckpt"))
    # The same reviews in another order of words and frequencies would get other ids if the
    # vocabulary were built from these.
    reviews = [
        (text.replace("film", "film zebra zebra"), y) for text, y in make_reviews(60, seed=5)
    ]
    write_csv(Path("other.csv"), reviews)
    args = ["--ckpt_path", "alone.ckpt", "--data.source", "other.csv"]
    tested = run("test", "--accelerator", "cpu", *args)
    assert tested.status == 0, tested
    accuracy = float(tested.out.split("test accuracy")[1].split("%")[0].split()[-1])
    assert accuracy > 90
    predicted = run("predict", "other.csv", "--ckpt_path", "alone.ckpt")
    assert predicted.status == 0, predicted
    labels = [json.loads(line)["predicted_label"] for line in predicted.out.splitlines()]
    assert labels[:60].count("neg") >= 55
    assert labels[60:].count("pos") >= 55


def test_command_line_wins_over_checkpoint_and_checkpoint_over_defaults(
    run: Run, trained: Trained, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_imdb.cli import CLI

    seen: dict[str, object] = {}

    def note(self: CLI, **kwargs: object) -> None:
        seen.update(self.datamodule.hparams, **self.model.hparams)
        seen["ids"] = self.datamodule.batch_size

    monkeypatch.setattr(CLI, "test", note)
    flags = ["--data.batch_size", "7", "--data.source", trained.corpus, "--model.dropout", "0.4"]
    Path("mine.yaml").write_text("data: {val_fraction: 0.3}\n")
    assert run("test", "--config", "mine.yaml", "--ckpt_path", best, *flags).status == 0
    assert (seen["batch_size"], seen["dropout"]) == (7, 0.4)  # the command line's
    assert seen["val_fraction"] == 0.3  # the config's
    assert (seen["hidden_dim"], seen["max_length"], seen["vocab_size"]) == (8, 8, 60)  # checkpoint
    assert seen["tokenizer"] == "words"  # a default


def test_a_later_run_is_the_newest_and_another_root_folder_is_kept_to(
    run: Run, corpus: Path
) -> None:
    root = ["--trainer.default_root_dir", "elsewhere"]
    for number in range(11):  # version_10 comes after version_9
        Path(f"elsewhere/logs/imdb/version_{number}").mkdir(parents=True)
    assert run("fit", *TINY, *root, "--max_epochs", "1", "--data.source", corpus).status == 0
    assert Path("elsewhere/logs/imdb/version_11/checkpoints/best.ckpt").is_file()
    assert not Path("logs").exists()
    assert "version_11" in run("test", *root, "--ckpt_path", "last", "--accelerator", "cpu").out


def test_the_packages_names_are_there() -> None:
    import lit_imdb

    for name in ("ImdbDataModule", "LitSentiment", "SentimentRNN"):
        assert getattr(lit_imdb, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        lit_imdb.Nothing  # noqa: B018


def test_a_run_without_validation_is_tested_and_reported(run: Run, corpus: Path) -> None:
    done = run(*TINY, "--data.source", corpus, "--trainer.limit_val_batches", "0")
    assert done.status == 0, done.err
    results = results_of(RUN)
    assert results["val_acc"] is None
    assert results["test_acc"] > 0.5


def test_a_terminal_shows_the_epochs_above_a_bar_of_one_line_that_counts_every_batch(
    run: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")  # no colours
    monkeypatch.setattr(Stream, "isatty", lambda self: True)
    bar = ("--trainer.enable_progress_bar", "true", "--trainer.log_every_n_steps", "1")
    done = run(*TINY, *bar, "--data.source", corpus)
    assert done.status == 0, done.err
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
    shutil.copytree(trained.run, Path("logs/imdb/version_0"))
    worse = Path("logs/imdb/version_1")
    shutil.copytree(trained.run, worse)
    results = results_of(worse)
    results["val_acc"] = results["val_acc"] / 2
    (worse / "results.json").write_text(json.dumps(results))
    cut_off = Path("logs/imdb/version_2")
    shutil.copytree(trained.run, cut_off)
    (cut_off / "results.json").unlink()

    listed = {each["run"][-1]: each for each in json.loads(run("runs", "--json").out)}
    assert [listed[number]["best"] for number in "012"] == [True, False, False]
    assert listed["0"]["changed"]["model.lr"] == 0.02
    assert "model.vocab_size" not in listed["0"]["changed"]
    assert listed["2"]["test_acc"] is None
    lines = {line[:19][-1]: line for line in run("runs").out.splitlines() if "version" in line}
    assert f"{100 * listed['0']['val_acc']:.2f} % *" in lines["0"]
    assert "lr\xa00.02" in lines["0"]
    assert "*" not in lines["1"]
    assert "not finished" in lines["2"]
    assert "no run in nowhere" in run("runs", "--folder", "nowhere").err
