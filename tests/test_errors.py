"""A user's mistakes: one line that says what to do, exit status 2."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import (
    TINY,
    Trained,
    error_line,
    train_py,
    write_jsonl,
)

Fails = Callable[..., str]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_says_to_use_the_cpu(fails: Fails, corpus: Path) -> None:
    for flag in ("--accelerator", "--trainer.accelerator"):
        for value in ("gpu", "cuda"):
            assert "--accelerator cpu" in fails(flag, value, "--data.source", corpus)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--data.sorce", "package"], "sorce"),
        (["--model.hidden", "3"], "hidden"),
        (["--nonsense"], "nonsense"),
        (["tset"], "tset"),
        (["--max_epoch", "1"], "max_epoch"),
        (["--data.tokenizer", "letters"], "tokenizer"),
        (["--data.batch_size", "many"], "batch_size"),
        (["--data.batch_size", "0"], "batch_size"),
        (["--data.val_fraction", "1"], "val_fraction"),
        (["--data.val_fraction", "-0.1"], "val_fraction"),
        (["--data.vocab_size", "2"], "vocab_size"),
        (["--data.max_length", "0"], "max_length"),
        (["--model.hidden_dim", "0"], "hidden_dim"),
        (["--model.embedding_dim", "-1"], "embedding_dim"),
        (["--model.dropout", "1"], "dropout"),
        (["--model.dropout", "-0.5"], "dropout"),
        (["--model.lr", "0"], "lr"),
        (["--model.lr", "nan"], "lr"),
        (["--model.engine", "magic"], "engine"),
        (["--accelerator", "abacus"], "abacus"),
        (["--precision", "17"], "17"),
        (["--devices", "0"], "devices"),
        (["--devices", "x"], "devices"),
        (["--strategy", "psychic"], "psychic"),
        (["--max_epochs", "soon"], "max_epochs"),
        (["--max_epochs", "-5"], "max_epochs"),
        (["--trainer.limit_train_batches", "-3"], "limit_train_batches"),
        (["--trainer.devices"], "devices"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--data.source", "missing/path"], "missing/path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_keys_and_values_are_named(
    args: list[str], named: str, fails: Fails, corpus: Path
) -> None:
    assert named in fails("--data.source", corpus, *TINY, *args)


def test_a_config_file_with_an_unknown_key_is_named(fails: Fails) -> None:
    Path("mine.yaml").write_text("data:\n  sorce: package\n")
    assert "sorce" in fails("--config", "mine.yaml")
    Path("mine.yaml").write_text("data: [unclosed\n")
    assert "mine.yaml" in fails("--config", "mine.yaml")


def test_fewer_reviews_than_a_batch_says_which_flag(fails: Fails, corpus: Path) -> None:
    line = fails("--data.source", corpus, *TINY, "--data.batch_size", "500")
    assert "144 training reviews are fewer than a batch" in line
    assert "--data.batch_size" in line


def test_a_wrong_test_part_is_found_in_other_commands_too(
    fails: Fails, trained: Trained, tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "odd.jsonl", [("fine", 7)])
    ckpt = trained.run / "checkpoints/best.ckpt"
    for command in ("validate", "test"):
        line = fails(command, "--ckpt_path", ckpt, "--data.source", "odd.jsonl")
        assert "label 7" in line


def test_the_real_command_prints_one_line_and_nothing_else(workspace: Path) -> None:
    done = train_py("--data.source", "missing", cwd=workspace)
    assert "missing" in error_line(done)
    assert done.out == ""
    assert not (workspace / "logs").exists()


def test_a_traceback_is_there_for_who_asks(workspace: Path) -> None:
    done = train_py("--data.source", "missing", cwd=workspace, LIT_IMDB_DEBUG="1")
    assert done.status != 0
    assert "Traceback" in done.err
    assert "UserError: no such file or folder: " in done.err
