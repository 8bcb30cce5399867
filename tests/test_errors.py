"""A user's mistakes: one line that says what to do, exit status 2."""

import importlib.util
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, Fails, Run

from lit_imdb.arguments import COMMANDS, WITHOUT_TRAINER
from lit_imdb.errors import UserError

MISTAKES = {
    # names of other programs, and slips
    "--epoch 2": "--epoch: did you mean --max_epochs?",
    "--batch-size=3": "did you mean --data.batch_size?",
    "--nonsense": "no flag --nonsense; `python train.py fit --help` lists all\n",
    "--model.vocab_size 3": "--model.vocab_size follows the data: use --data.vocab_size",
    "--model lit_imdb.model.ngrams.LitNGrams --model.dropout 0": "; --model.help CLASS lists all",
    "--report false test": "the command comes first: python train.py test ...",
    # values
    "--model.lr abc": "--model.lr abc: expected a number\n",
    "--model.lr nan": "--model.lr",
    "--model.engine turbo": "--model.engine turbo: expected auto, reference, fused or cudnn\n",
    "--model.hidden_dim 0": "hidden_dim",
    "--model.dropout 1": "--model.dropout 1.0: expected 0 to below 1",
    "--model.word_dropout 1": "--model.word_dropout 1.0: expected 0 to below 1",
    "--model.word_loss -1": "--model.word_loss -1.0: expected at least 0",
    "--data.batch_size many": "--data.batch_size many: expected a whole number\n",
    "--data.batch_size 0": "batch_size",
    "--data.val_fraction 1": "val_fraction",
    "--data.vocab_size 2": "vocab_size",
    "--data.max_length 0": "max_length",
    "--data.source missing/path": "missing/path",
    "--checkpoint_every_n_steps 0": "expected a number above 0, not 0",
    "--report maybe": "--report maybe: expected true or false\n",
    "--max_epochs -5": "max_epochs",
    "--precision 17": "--trainer.precision 17: expected 64, 32, 16, ",
    "--accelerator abacus": "abacus",
    "--trainer.devices": "devices",
    "--trainer.deterministic foo": "expected true, false or warn\n",
    "--trainer.accumulate_grad_batches 0": "accumulate_grad_batches 0: expected more than 0",
    "--trainer.val_check_interval 100": "`val_check_interval` (100) must be less",
    "--trainer.barebones true --trainer.logger true": "barebones=True, logger=True",
    "--trainer.default_root_dir /dev/null/x": "/dev/null/x",
    # classes of Lightning
    "--trainer.callbacks EarlyStopping": "callbacks.monitor is required\n",
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val_loss": "`val/loss`",
    "--trainer.callbacks Timer --trainer.callbacks.verbose x": "callbacks.verbose x: expected true",
    "--trainer.callbacks Timer --trainer.callbacks.durration 1": "callbacks.duration?",
    "--trainer.callbacks EarlyStoping": "no class EarlyStoping: did you mean EarlyStopping?",
    "--trainer.callbacks no_module.Mine": "no module no_module",
    "--optimizer AdamW --optimizer.weight_deca 3": "did you mean --optimizer.weight_decay?",
    # files
    "--config missing.yaml": "missing.yaml",
    "--ckpt_path logs": "expected a file, such as logs/best.ckpt, or `best` or `last`",
    # commands
    "fti": "'fti': expected one of fit, validate, test, ",
    "train": "did you mean fit?",
    "predict 'I loved it'": "`python train.py predict --text 'I loved it'`",
    "predict -t 'I loved it'": "-t: did you mean --text?",
    "export --formt onnx": "did you mean --format?",
    "export --format tflite": "tflite",
}
if not torch.cuda.is_available():
    MISTAKES["--accelerator gpu"] = "this machine has none; use --accelerator cpu"
if not importlib.util.find_spec("wandb"):
    MISTAKES["--trainer.logger WandbLogger"] = "package wandb is missing: pip install 'wandb>="


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line_with_what_was_meant(typed: str, fails: Fails, corpus: Path) -> None:
    Path("logs").mkdir()
    Path("logs/best.ckpt").touch()
    flags = ["--data.source", corpus, *TINY] if typed.startswith("--") else []
    line = fails(*flags, *shlex.split(typed))
    assert MISTAKES[typed] in line
    for leak in ("typing.", "Namespace(", " object at 0x", "Union", "<class"):
        assert leak not in line


CONFIGS = {
    "max_epochs: 1": "no setting max_epochs: did you mean trainer.max_epochs?",
    "data: {sorce: package}": "did you mean --data.source?",
    "model: {lr: abc}": "--model.lr abc: expected a number",
    "data: [unclosed": "Problems parsing",
}


@pytest.mark.parametrize("content", CONFIGS)
def test_a_mistake_in_a_config_file_names_the_file(content: str, fails: Fails) -> None:
    Path("mine.yaml").write_text(content)
    line = fails("--config", "mine.yaml")
    assert line.startswith("error: --config mine.yaml: ")
    assert CONFIGS[content] in line


@pytest.mark.parametrize(
    ("command", "gone", "needed"),
    [("export", "onnx", "onnx onnxruntime"), ("serve", "uvicorn", "starlette uvicorn")],
)
def test_a_missing_package_says_how_to_install_it_and_an_export_leaves_nothing(
    command: str, gone: str, needed: str, fails: Fails, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, gone, None)
    assert f"{gone} is missing: pip install {needed}" in fails(command, "--ckpt_path", best)
    assert not list(Path().iterdir())


def test_a_bug_is_not_called_a_mistake_of_the_user(
    run: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_imdb.model.module import LitSentiment

    monkeypatch.setattr(LitSentiment, "configure_optimizers", lambda self: [][0])
    done = run("--data.source", corpus, *TINY)
    assert done.status == 1
    assert re.search("^error: IndexError: .* \\(LIT_IMDB_DEBUG=1 shows where\\)$", done.err, re.M)


@pytest.mark.parametrize("called", ["/usr/bin/lit-imdb", "../train.py"])
def test_hints_name_the_program_as_it_was_called(
    called: str, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [called])
    named = {"../train.py": "python ../train.py"}.get(called, "lit-imdb")
    assert f"train one with `{named}`" in fails("export")
    assert f"`{named} export --help`" in fails("export", "--nonsense")


def test_what_was_asked_for_is_told_and_nothing_else(fit: Run) -> None:
    stop = ("+=EarlyStopping", ".monitor=val/loss", ".patience=0", ".mode=max")
    keep = ("+=ModelCheckpoint", ".monitor=val/acc", ".verbose=true")
    callbacks = (f"--trainer.callbacks{part}" for part in (*stop, *keep))
    told = [line.split()[0] for line in fit("--max_epochs", 9, *callbacks).err.splitlines()]
    assert told == ["loading", "preparing", "training", *["epoch", "Epoch"] * 2, "Monitored"]


def test_help_lists_the_commands_and_version_is_told(run: Run) -> None:
    for flag in ("--help", "-h", "help"):
        assert all(f"\n  {name} " in run(flag).out for name in [*COMMANDS, *WITHOUT_TRAINER])
    assert run("--version").out == f"lit-imdb {version('lit-imdb')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_screen_of_help_has_every_flag_of_the_readme(
    command: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(command, "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    table = (ROOT / "README.md").read_text().partition("| flag |")[2].partition("\n\n")[0]
    flags = re.findall("`(--[^`]+)`", table)
    assert len(flags) > 10
    for flag in {*flags, "torchtext's"} - {"--trainer.max_epochs", "--trainer."}:
        assert flag in "\n".join(lines[:40]), flag
    assert "accumulate_grad_batches" in "\n".join(lines)  # by name; described by:
    assert "--trainer.accumulate_grad_batches" in run(command, "--help", "all").out


def test_a_traceback_is_there_for_who_asks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_IMDB_DEBUG", "1")
    with pytest.raises(UserError, match="No such file or directory"):
        run("--data.source", "missing")
