"""Labelled reviews in a user's own files: the aclImdb folders, or tables with text and label."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_imdb.data.tables import MAX_CHARACTERS, READERS, names_in, place_of, read_rows
from lit_imdb.errors import UserError

_TABLES = READERS.keys() - {".txt"}
_FOLDERS = {"neg": 0, "pos": 1}
_LABELS = {**_FOLDERS, "negative": 0, "positive": 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}


def files_of(source: str) -> dict[str, list[Path]]:
    """The files of a user's path by part, in the order in which they are read."""
    try:
        return _below(Path(os.path.realpath(source)), source)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {source!r:.200}: {error!s:.200}") from error


def _below(path: Path, source: str) -> dict[str, list[Path]]:
    if not path.exists():
        raise UserError(
            f"no such file or folder: {source:.200} (--data.source takes auto, hub, package)"
        )
    if path.is_file():
        return {"train": [path]}
    if not path.is_dir():
        raise UserError(f"{source} is neither a file nor a folder")
    if any((path / part / label).is_dir() for part in ("train", "test") for label in _FOLDERS):
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
            for label in _FOLDERS
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


def file_reviews(
    paths: list[Path], text_column: str, encoding: str
) -> Iterator[tuple[str | None, int]]:
    """Texts and labels of one file after the other.

    Raises:
        UserError: A row without text or label, or with another label than those in `_LABELS`.
    """
    for path in paths:
        if path.suffix == ".txt" and path.parent.name in _FOLDERS:
            yield _read_text(path, encoding), _FOLDERS[path.parent.name]
            continue
        for number, row in enumerate(read_rows(path, encoding), 1):
            place = place_of(str(path), number)
            for column in (text_column, "label"):
                if column not in row:
                    raise UserError(
                        f"{place}: no column {column!r}, only {names_in(row)}; "
                        f"expected {text_column!r} and 'label': rename them, or name the text's "
                        "with --data.text_column NAME"
                    )
            text = row[text_column]
            if isinstance(text, str) and len(text) > MAX_CHARACTERS:
                raise UserError(f"{place}: longer than {MAX_CHARACTERS:,} characters")
            if text is not None and not isinstance(text, str):
                raise UserError(f"{place}: {text_column} {_shown(text)} is not a string")
            yield text, _label(row["label"], place)


def _read_text(path: Path, encoding: str) -> str:
    try:
        with path.open(encoding=encoding) as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except (LookupError, ValueError) as error:  # no such encoding, or the file has another
        raise UserError(
            f"cannot read {path}: {error}; name its encoding, for example --data.encoding cp1252"
        ) from error
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{path}: longer than {MAX_CHARACTERS:,} characters")
    return text


def _label(value: Any, place: str) -> int:
    if isinstance(value, bool):
        value = int(value)
    name = "" if isinstance(value, dict | list) else str(value).strip().lower()
    if value is None or value == "":
        raise UserError(f"{place}: the label is empty, expected 0/1 (or neg/pos)")
    if name not in _LABELS:
        is_number = re.fullmatch(r"-?\d+(\.\d+)?", name)
        advice = ": map stars to 0 and 1, and leave the middle out" if is_number else ""
        raise UserError(f"{place}: label {_shown(value)} is outside 0/1 (or neg/pos){advice}")
    return _LABELS[name]


def _shown(value: Any) -> str:
    """A value as a message shows it: the start, and nothing of what is nested a thousand deep."""
    return f"of type {type(value).__name__}" if isinstance(value, dict | list) else f"{value!r:.80}"
