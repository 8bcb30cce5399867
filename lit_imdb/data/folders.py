"""Labelled reviews in a user's own files: the folders of aclImdb, or tables."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from reprlib import repr as short_repr  # of values that are long or deeply nested
from typing import Any

from lit_imdb.data.tables import MAX_CHARACTERS, READERS, names_in, place_of, read_rows, stamp
from lit_imdb.errors import UserError

_TABLES = READERS.keys() - {".txt"}
_FOLDERS = {"neg": 0, "pos": 1}
_LABELS = {
    **dict.fromkeys(("neg", "negative", "0", "0.0", "false"), 0),
    **dict.fromkeys(("pos", "positive", "1", "1.0", "true"), 1),
}


class Files:
    """The reviews at `path`.

    Args:
        path: A table with a column `label`, a folder of such tables (those named test* are the test
            part), or a folder train|test/pos|neg/*.txt.
        text_column: The column of the tables that holds the review.
        encoding: Of text files.
    """

    def __init__(self, path: str, text_column: str = "text", encoding: str = "utf-8") -> None:
        self.name = path
        self.text_column = text_column
        self.encoding = encoding
        # Not the whole path, which may say something about the machine.
        self.note = (
            f"The trainer's own files, `{Path(path).name}`. A test split that the files do not "
            "name is the tail of each label."
        )
        self.licence = "Unknown: whoever trained the model must add it here."

    def fingerprint(self) -> object:
        stamps = [stamp(file) for files in _find(self.name).values() for file in files]
        return [sorted(stamps), self.text_column, self.encoding]

    def parts(self) -> dict[str, Callable[[], Iterator[tuple[str | None, int]]]]:
        return {part: partial(self._read, files) for part, files in _find(self.name).items()}

    def _read(self, paths: list[Path]) -> Iterator[tuple[str | None, int]]:
        for path in paths:
            if path.suffix == ".txt" and path.parent.name in _FOLDERS:
                yield _read_text(path, self.encoding), _FOLDERS[path.parent.name]
            else:
                yield from self._read_table(path)

    def _read_table(self, path: Path) -> Iterator[tuple[str | None, int]]:
        for number, row in enumerate(read_rows(path, self.encoding), 1):
            place = place_of(str(path), number)
            for column in (self.text_column, "label"):
                if column not in row:
                    raise UserError(
                        f"{place}: no column {column!r}, only {names_in(row)}; expected "
                        f"{self.text_column!r} and 'label': rename them, or name the text's "
                        "with --data.text_column NAME"
                    )
            text = row[self.text_column]
            if text is not None and not isinstance(text, str):
                raise UserError(f"{place}: {self.text_column} {short_repr(text)} is not a string")
            if len(text or "") > MAX_CHARACTERS:
                raise UserError(f"{place}: longer than {MAX_CHARACTERS:,} characters")
            yield text, _label(row["label"], place)


def _find(name: str) -> dict[str, list[Path]]:
    """Return the files of each part in the order in which they are read."""
    try:
        root = Path(os.path.realpath(name))
        if root.is_file():
            parts = {"train": [root]}
        elif root.is_dir():
            parts = _texts_below(root) or _tables_in(root)
        else:
            raise UserError(
                f"no such file or folder: {name:.200} (--data.source takes auto, hub, package)"
            )
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {name!r:.200}: {error!s:.200}") from error
    if not parts.get("train"):
        raise UserError(
            f"no reviews in {name}: expected train|test/pos|neg/*.txt, or .csv, .tsv, .jsonl or "
            ".parquet files with columns text and label"
        )
    return {part: files for part, files in parts.items() if files}


def _tables_in(root: Path) -> dict[str, list[Path]]:
    parts: dict[str, list[Path]] = {"train": [], "test": []}
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in _TABLES and path.is_file():
            parts["test" if path.stem.lower().startswith("test") else "train"].append(path)
    return parts


def _texts_below(root: Path) -> dict[str, list[Path]]:
    """Return the files of the aclImdb layout; links may not make a file outside `root` a review."""
    parts: dict[str, list[Path]] = {}
    for part, label in product(("train", "test"), _FOLDERS):
        folder, files = root / part / label, []
        if not folder.is_dir():
            continue
        if not folder.resolve().is_relative_to(root):
            raise UserError(f"{folder} leads out of {root}: expected a folder in it")
        for entry in os.scandir(folder):
            if not entry.name.endswith(".txt"):
                continue
            inside = not entry.is_symlink() or Path(os.path.realpath(entry)).is_relative_to(root)
            if not (inside and entry.is_file()):
                raise UserError(f"{entry.path} is not a file, or a link out of {root}: remove it")
            files.append(Path(entry))
        parts.setdefault(part, []).extend(sorted(files, key=_review_number))
    return parts


def _review_number(file: Path) -> tuple[int, str]:
    """Return what sorts 2_9.txt before 10_9.txt: reviews of one film have neighbouring numbers."""
    number = file.stem.split("_")[0]
    return (int(number) if number.isdecimal() else -1, file.name)


def _read_text(path: Path, encoding: str) -> str:
    try:
        with path.open(encoding=encoding) as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, LookupError, ValueError) as error:  # LookupError: no such encoding
        raise UserError(
            f"cannot read {path}: {error}; if it has another encoding, name it, for example "
            "--data.encoding cp1252"
        ) from error
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{path}: longer than {MAX_CHARACTERS:,} characters")
    return text


def _label(value: Any, place: str) -> int:
    if value is None or value == "":
        raise UserError(f"{place}: the label is empty, expected 0/1 (or neg/pos)")
    name = "" if isinstance(value, dict | list) else str(value).strip().lower()
    if name not in _LABELS:
        is_number = name.lstrip("-")[:1].isdecimal()
        advice = ": map stars to 0 and 1, and leave the middle out" if is_number else ""
        raise UserError(f"{place}: label {short_repr(value)} is outside 0/1 (or neg/pos){advice}")
    return _LABELS[name]
