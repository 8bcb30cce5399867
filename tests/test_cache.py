"""Prepared reviews on disk: when they are prepared again, and what damage and faults do."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, make_reviews, write_csv
from prepared import data_of, preparation

from lit_imdb.data import cache
from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.data.prepare import Preparation
from lit_imdb.errors import UserError


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


@pytest.mark.parametrize(
    "change",
    [{"tokenizer": "basic_english"}, {"vocab_size": 20}, {"max_length": 4}, {"val_fraction": 0.3}],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_that_changes_the_ids_has_its_own_cache(
    change: dict[str, object], corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "own"
    preparation(corpus, root).open()
    before = set(folders(root))
    preparation(corpus, root, **change).open()
    assert set(folders(root)) > before


@pytest.mark.parametrize("change", [{"text_column": "title"}, {"encoding": "cp1252"}], ids=str)
def test_another_column_or_encoding_of_the_same_file_is_prepared_again(
    change: dict[str, str], tmp_path: Path
) -> None:
    rows = [f'"{text} café","title {text}",{label}' for text, label in make_reviews(50)]
    (tmp_path / "own.csv").write_text("\n".join(["text,title,label", *rows]), encoding="utf-8")
    first, _, _ = preparation(tmp_path / "own.csv", tmp_path / "own").open()
    second, _, _ = preparation(tmp_path / "own.csv", tmp_path / "own", **change).open()
    assert first.vocabulary != second.vocabulary


def test_a_changed_file_is_prepared_again(corpus: Path, tmp_path: Path) -> None:
    _, first, _ = preparation(corpus, tmp_path / "own").open()
    write_csv(corpus, make_reviews(60, seed=3))
    _, second, _ = preparation(corpus, tmp_path / "own").open()
    assert (len(first["test"]), len(second["test"])) == (40, 24)


def test_a_checkpoints_vocabulary_has_its_own_cache(corpus: Path, tmp_path: Path) -> None:
    own = ["<pad>", "<unk>", "lovely", "awful"]
    preparation(corpus, tmp_path / "own").open()
    _, parts, _ = preparation(corpus, tmp_path / "own", vocabulary=own).open()
    assert parts["train"].ids.max() == 3


def test_a_checkpoint_brings_its_vocabulary_or_says_where_to_put_it() -> None:
    data = ImdbDataModule("package")
    data.load_state_dict({"vocabulary": "<pad>\n<unk>\nfilm"})
    assert data.vocabulary == ["<pad>", "<unk>", "film"]
    with pytest.raises(UserError, match=r"set datamodule\.vocabulary to the checkpoint's"):
        data.load_state_dict({"vocabulary": "<pad>\n<unk>\nplot"})


def test_a_second_start_builds_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data_of(corpus)

    def never(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(cache, "_build_locked", never)
    monkeypatch.setattr(Preparation, "batches", never)
    second = data_of(corpus)
    assert torch.equal(first.splits["train"].ids, second.parts["train"].ids)


# --- faults ---

# Prepares a CSV file; each review encoded is a byte in `encoded`, and may take its time.
PREPARE = """
import sys, time
from pathlib import Path
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.source import open_source
from lit_imdb.data.text import TextEncoder

encode = TextEncoder.encode

def slow(self, texts):
    with open("encoded", "ab") as file:
        file.write(bytes(len(texts)))
    time.sleep(float(sys.argv[1]))
    return encode(self, texts)

TextEncoder.encode = slow
Preparation(open_source("corpus.csv"), Path("own"), "words", 60, 8, 0.1).open()
"""


def prepare(seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a byte flipped": lambda folder: flip(folder / "train.ids"),
    "a byte flipped in a text": lambda folder: flip(folder / "test.texts"),
    "truncated": lambda folder: os.truncate(folder / "train.ids", 100),
    "emptied": lambda folder: os.truncate(folder / "val.labels.npy", 0),
    "missing": lambda folder: (folder / "counts.json").unlink(),
    "a folder instead": lambda folder: (
        (folder / "counts.json").unlink(),
        (folder / "counts.json").mkdir(),
    ),
    "a manifest of garbage": lambda folder: (folder / "manifest.json").write_bytes(b"\xff{"),
    "a manifest that is a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "a manifest of nothing": lambda folder: (folder / "manifest.json").write_text("{}"),
    "a manifest of outside files": lambda folder: (folder / "manifest.json").write_text(
        '{"/dev/zero": 0}'
    ),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a foreign file": lambda folder: (folder / "foreign.txt").write_text("hello"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_named_and_rebuilt(damage: str, corpus: Path, tmp_path: Path) -> None:
    data_of(corpus, cache_dir="own")
    folder = next(path for path in folders(tmp_path / "own") if (path / "train.ids").exists())
    good = {file.name: file.read_bytes() for file in folder.iterdir()}
    DAMAGE[damage](folder)
    with pytest.warns(UserWarning, match=f"the cache is damaged .*{folder.name}") as caught:
        data_of(corpus, cache_dir="own")
    assert len(caught) == 1
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == good


def test_foreign_files_beside_the_folders_are_left_alone(corpus: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "foreign").mkdir(parents=True)
    (own / "foreign/file").write_text("hello")
    data_of(corpus, cache_dir=own)
    assert (own / "foreign/file").read_text() == "hello"


def test_a_killed_build_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    write_csv(tmp_path / "corpus.csv", make_reviews(100))
    process = prepare(60)
    deadline = time.monotonic() + 60
    while not (tmp_path / "encoded").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    own = tmp_path / "own"
    unfinished = [path for path in folders(own) if cache.damage_in(path)]
    assert [path.name.startswith(".") for path in unfinished] == [True]
    again = prepare(0)  # the dead process's lock does not hold it up
    assert again.wait(60) == 0, again.stderr
    assert not any(cache.damage_in(path) for path in folders(own))
    assert (tmp_path / "encoded").stat().st_size == 2 * 200


def test_two_processes_build_once(tmp_path: Path) -> None:
    write_csv(tmp_path / "corpus.csv", make_reviews(100))
    processes = [prepare(1), prepare(1)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "encoded").stat().st_size == 200  # each review once


def test_a_cache_that_cannot_be_written_is_one_line(
    fails: Callable[..., str], corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    line = fails(*TINY, "--data.source", corpus, "--data.cache_dir", tmp_path / "file/below")
    assert "--data.cache_dir" in line
    assert not (tmp_path / "logs").exists()


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_full_or_read_only_disk_is_one_line_and_leaves_nothing(
    options: str, fails: Callable[..., str], tmp_path: Path
) -> None:
    corpus = write_csv(tmp_path / "corpus.csv", make_reviews(4000))
    with mounted(tmp_path / "disk", options) as disk:
        line = fails(*TINY, "--data.source", corpus, "--data.cache_dir", disk / "own")
        assert "cannot write the cache" in line
        assert ("No space left" if options != "ro" else "Read-only") in line
        assert not [path for path in disk.rglob(".*") if path.is_dir()]
