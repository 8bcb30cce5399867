"""Prepared reviews on disk: when they are prepared again, and what damage and faults do."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import TINY, Fails, make_reviews, write_csv
from prepared import data_of

from lit_imdb.data import cache
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError


def folders() -> set[Path]:
    """What the cache holds."""
    return {path for path in Path("own").iterdir() if path.is_dir()}


CHANGES: list[dict[str, Any]] = [
    *({"tokenizer": "basic_english"}, {"vocab_size": 20}, {"max_length": 4}, {"val_fraction": 0.3}),
    *({"text_column": "title", "label_column": "other"}, {"encoding": "cp1252"}),
    {"vocabulary": ["<pad>", "<unk>", "lovely", "awful"]},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_setting_that_changes_the_ids_has_its_own_cache(change: dict[str, Any]) -> None:
    rows = [f'"{text} café","title {text}",{label},{1 - label}' for text, label in make_reviews(50)]
    Path("own.csv").write_text("\n".join(["text,title,label,other", *rows]), encoding="utf-8")
    data_of("own.csv", cache_dir="own")
    before = folders()
    data = data_of("own.csv", cache_dir="own", **change)
    assert folders() > before
    assert data.splits["train"].ids.max() < len(data.vocabulary or [])


def test_a_second_start_reads_no_review_but_those_of_a_changed_file(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data_of(corpus).splits["test"]
    assert len(first) == 40
    with monkeypatch.context() as patch:
        patch.delattr(Preparation, "batches")
        assert torch.equal(first.ids, data_of(corpus).splits["test"].ids)
    write_csv(corpus, make_reviews(60, seed=3))
    assert len(data_of(corpus).splits["test"]) == 24


def test_a_checkpoint_brings_its_vocabulary_or_says_where_to_put_it() -> None:
    data = ImdbDataModule("package")
    data.load_state_dict({"vocabulary": "<pad>\n<unk>\nfilm"})
    assert data.vocabulary == ["<pad>", "<unk>", "film"]
    with pytest.raises(UserError, match=r"set datamodule\.vocabulary to the checkpoint's"):
        data.load_state_dict({"vocabulary": "<pad>\n<unk>\nplot"})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "other content": lambda folder: (folder / "val.ids").write_bytes(bytes(256)),  # as long
    "missing": lambda folder: (folder / "counts.json").unlink(),
    "a manifest of nothing": lambda folder: (folder / "manifest.json").write_text("{}"),
    "a foreign file": lambda folder: (folder / "foreign.txt").write_text("hello"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_named_and_rebuilt(damage: str, corpus: Path) -> None:
    data_of(corpus, cache_dir="own")
    (folder,) = (path.parent for path in Path("own").glob("*/train.ids"))
    good = {file.name: file.read_bytes() for file in folder.iterdir()}
    DAMAGE[damage](folder)
    with pytest.warns(UserWarning, match=f"the cache is damaged .*{folder.name}") as caught:
        data_of(corpus, cache_dir="own")
    assert len(caught) == 1
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == good


def prepare(seconds: float) -> BaseProcess:
    """Start a process that prepares corpus.csv, slowly; each review encoded is a byte in a file."""
    encode = TextEncoder.encode

    def slow(self: TextEncoder, texts: list[str]) -> Any:
        with open("encoded", "ab") as file:
            file.write(bytes(len(texts)))
        time.sleep(seconds)
        return encode(self, texts)

    def run() -> None:
        TextEncoder.encode = slow  # type: ignore[method-assign]
        data_of("corpus.csv", cache_dir="own")

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


@pytest.mark.usefixtures("corpus")
def test_a_killed_build_leaves_nothing_that_looks_complete() -> None:
    process = prepare(60)
    deadline = time.monotonic() + 60
    while not Path("encoded").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.join()
    (unfinished,) = (path for path in folders() if not cache.is_whole(path))
    assert unfinished.name.startswith(".")
    data_of("corpus.csv", cache_dir="own")  # the dead process's lock does not hold it up
    assert all(map(cache.is_whole, folders()))


@pytest.mark.usefixtures("corpus")
def test_two_processes_build_once() -> None:
    processes = [prepare(0.5), prepare(0.5)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert Path("encoded").stat().st_size == 200  # each review once


def test_a_full_disk_or_a_folder_that_cannot_be_made_is_one_line_and_leaves_nothing(
    fails: Fails, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = (*TINY, "--data.source", corpus, "--data.cache_dir")
    Path("file").touch()
    assert "choose another place with --data.cache_dir DIR" in fails(*args, "file/below")
    assert not Path("logs").exists()
    full = Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(Path, "write_text", full)
    assert "cannot write the cache own (No space left on device)" in fails(*args, "own")
    assert not [path for path in Path("own").rglob(".*") if path.is_dir()]
