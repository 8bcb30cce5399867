"""Labelled reviews in a user's own files: the folders of aclImdb, or tables."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from lit_imdb.data.tables import READERS, read_rows, read_text, stamp, text_of
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
            split), or a folder train|test/pos|neg/*.txt.
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
        return [stamps, self.text_column, self.encoding]

    def reviews(self) -> Iterator[tuple[str | None, int, bool]]:
        for split, files in _find(self.name).items():
            for file in files:
                for text, label in self._read(file):
                    yield text, label, split == "test"

    def _read(self, file: Path) -> Iterator[tuple[str | None, int]]:
        if file.suffix == ".txt" and file.parent.name in _FOLDERS:
            yield read_text(file, self.encoding), _FOLDERS[file.parent.name]
            return
        for number, row in enumerate(read_rows(file, self.encoding), 1):
            place = f"{file}, data row {number}"
            yield text_of(row, self.text_column, place), _label(row, place)


def _label(row: dict[str, Any], place: str) -> int:
    if "label" not in row:
        raise UserError(f"{place}: no column 'label', only {short_repr(row)}: rename it")
    label = short_repr(row["label"])
    number = _LABELS.get(label.strip("' ").lower())
    if number is None:
        raise UserError(
            f"{place}: label {label} is outside 0/1 (or neg/pos); map stars to 0 and 1, and leave "
            "the middle out"
        )
    return number


def _find(name: str) -> dict[str, list[Path]]:
    """Return the files of each split in the order in which they are read."""
    try:
        root = Path(os.path.realpath(name))
        if root.is_file():
            return {"train": [root]}
        if not root.is_dir():
            raise UserError(
                f"no such file or folder: {name:.200} (--data.source takes auto, hub, package)"
            )
        found = _texts_below(root) if (root / "train").is_dir() else _tables_in(root)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {name!r:.200}: {error!s:.200}") from error
    if not found["train"]:
        raise UserError(
            f"no reviews in {name}: expected train|test/pos|neg/*.txt, or .csv, .tsv, .jsonl or "
            ".parquet files with columns text and label"
        )
    return found


def _tables_in(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {"train": [], "test": []}
    for file in sorted(root.iterdir()):
        if file.suffix.lower() in _TABLES and file.is_file():
            found["test" if file.stem.lower().startswith("test") else "train"].append(file)
    return found


def _texts_below(root: Path) -> dict[str, list[Path]]:
    """Return the files of the aclImdb layout; no link makes a file outside `root` a review."""
    found: dict[str, list[Path]] = {"train": [], "test": []}
    for split, label in product(found, _FOLDERS):
        folder = root / split / label
        if not folder.is_dir():
            continue
        if folder.resolve() != folder:
            raise UserError(f"{folder} leads elsewhere: links are not followed")
        entries = [entry for entry in os.scandir(folder) if entry.name.endswith(".txt")]
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                raise UserError(f"{entry.path} is not a file (links are not followed): remove it")
        found[split] += sorted(map(Path, entries), key=_review_number)
    return found


def _review_number(file: Path) -> tuple[int, str]:
    """Return what sorts 2_9.txt before 10_9.txt: reviews of one film have neighbouring numbers."""
    number = file.stem.split("_")[0]
    return (int(number) if number.isdecimal() else -1, file.name)
