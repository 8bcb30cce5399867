"""The cache under faults: what is damaged is rebuilt, the unfinished never taken for whole."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TINY, make_reviews, write_csv
from prepared import data_of

from lit_imdb.data import cache

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


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def write_content(file: Path) -> None:
    file.write_text("content")


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
    wait_for(tmp_path / "encoded")
    process.send_signal(signal.SIGKILL)
    process.wait()
    own = tmp_path / "own"
    unfinished = [path for path in folders(own) if cache.damage_in(path)]
    assert [path.name.startswith(".") for path in unfinished] == [True]
    again = prepare(0)  # the dead process's lock does not hold it up
    assert again.wait(60) == 0, again.stderr
    assert not any(cache.damage_in(path) for path in folders(own))
    assert (tmp_path / "encoded").stat().st_size == 2 * 200


def test_a_lock_file_that_somebody_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "key.lock").write_text("left by a dead process")
    cache.build_once(tmp_path / "key", lambda target: write_content(target / "file"))
    assert cache.damage_in(tmp_path / "key") is None


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


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file}"
        time.sleep(0.05)
