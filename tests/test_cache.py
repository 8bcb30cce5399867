"""Prepared reviews on disk: what makes them anew, and what does not."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, make_reviews, write_csv
from prepared import SETTINGS, data_of

from lit_imdb.data import cache
from lit_imdb.data.encoded import Encoded
from lit_imdb.data.prepare import Preparation
from lit_imdb.data.reviews import Reviews


def prepared(source: Path, root: Path, **settings: object) -> Encoded:
    return Preparation(root, str(source), **{**SETTINGS, **settings}).open()  # type: ignore[arg-type]


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    "change",
    [{"tokenizer": "basic_english"}, {"vocab_size": 20}, {"max_length": 4}, {"val_fraction": 0.3}],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_that_changes_the_ids_has_its_own_cache(
    change: dict[str, object], corpus: Path, tmp_path: Path
) -> None:
    root = tmp_path / "own"
    prepared(corpus, root)
    before = folders(root)
    prepared(corpus, root, **change)
    assert folders(root) > before


def test_a_changed_file_is_prepared_again(corpus: Path, tmp_path: Path) -> None:
    first = prepared(corpus, tmp_path / "own")
    write_csv(corpus, make_reviews(60, seed=3))
    second = prepared(corpus, tmp_path / "own")
    assert (len(first.parts["test"]), len(second.parts["test"])) == (40, 24)


def test_a_checkpoints_vocabulary_has_its_own_cache(corpus: Path, tmp_path: Path) -> None:
    own = ["<pad>", "<unk>", "lovely", "awful"]
    prepared(corpus, tmp_path / "own")
    encoded = prepared(corpus, tmp_path / "own", vocabulary=own)
    assert encoded.parts["train"].ids.max() == 3


def test_a_second_start_builds_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data_of(corpus)

    def never(*_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(cache, "_build_locked", never)
    monkeypatch.setattr(Reviews, "batches", never)
    second = data_of(corpus)
    assert torch.equal(first.parts["train"].ids, second.parts["train"].ids)


def test_a_damaged_cache_is_rebuilt_with_a_warning(corpus: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    whole = prepared(corpus, root).parts["train"].ids.clone()
    (file,) = root.glob("*/train.ids")
    file.write_bytes(b"\x07" * file.stat().st_size)
    with pytest.warns(UserWarning, match="the cache is damaged"):
        again = prepared(corpus, root)
    assert torch.equal(again.parts["train"].ids, whole)


def test_a_build_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open_or_build(tmp_path / "own" / "key", build)
    assert not folders(tmp_path / "own")


def test_of_two_processes_that_start_together_one_builds(corpus: Path, tmp_path: Path) -> None:
    log = tmp_path / "builds"
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lit_imdb.data import prepare
for name in ("_write_vocabulary", "_write_ids"):
    def write(self, *args, real=getattr(prepare.Preparation, name), name=name):
        with open({str(log)!r}, "a") as file:
            file.write(name + "\\n")
        time.sleep(0.5)  # long enough for the other one to arrive
        real(self, *args)
    setattr(prepare.Preparation, name, write)
root = Path({str(tmp_path / "own")!r})
encoded = prepare.Preparation(root, {str(corpus)!r}, **{SETTINGS!r}).open()
print(len(encoded.parts["train"]))
"""
    command = [sys.executable, "-c", script]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in both] == ["144\n", "144\n"]
    assert sorted(log.read_text().split()) == ["_write_ids", "_write_vocabulary"]
