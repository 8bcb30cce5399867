"""Labelled reviews in a user's own files: the folders of aclImdb, or tables."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from reprlib import repr as short_repr

from lit_imdb.data import tables
from lit_imdb.errors import UserError, as_user_error

_TABLES = [ending for ending in tables.READERS if ending != ".txt"]
_FOLDERS = {"neg": 0, "pos": 1}
_LABELS = {
    **dict.fromkeys(("neg", "negative", "0", "0.0", "false"), 0),
    **dict.fromkeys(("pos", "positive", "1", "1.0", "true"), 1),
}


@dataclass
class Files:
    """The reviews at a path.

    A table, a folder of tables (those named test* are the test split), or a folder with
    train|test/pos|neg/*.txt or pos|neg/*.txt.

    Args:
        name: The path.
        text_column: The column of the tables that holds the review.
        label_column: The column of the tables that holds its label.
        encoding: Of text files without a byte order mark.
    """

    name: str
    text_column: str = "text"
    label_column: str = "label"
    encoding: str = "utf-8"
    licence = "Unknown: whoever trained the model must add it here."

    def __post_init__(self) -> None:
        # Not the whole path, which may say something about the machine.
        self.note = (
            f"The trainer's own files, `{Path(self.name).name}`. A test split that the files do "
            "not name is the tail of each label."
        )

    def fingerprint(self) -> object:
        stamps = [tables.stamp(file) for files in _find(self.name).values() for file in files]
        return [stamps, asdict(self)]

    def reviews(self) -> Iterator[tuple[str | None, int, bool]]:
        for split, files in _find(self.name).items():
            for file in files:
                for text, label in self._read(file):
                    yield text, label, split == "test"

    def _read(self, file: Path) -> Iterator[tuple[str | None, int]]:
        if file.suffix == ".txt" and file.parent.name in _FOLDERS:
            yield tables.read_text(file, self.encoding), _FOLDERS[file.parent.name]
            return
        rows = tables.read_rows(file, self.encoding, self.text_column)
        for number, row in enumerate(rows, 1):
            text = row[self.text_column]
            # Excel leaves rows without a text or label below the data
            is_full = bool(text and text.strip())
            yield text, self._label(row, f"{file}, data row {number}") if is_full else 0

    def _label(self, row: tables.Row, place: str) -> int:
        if self.label_column not in row:
            raise UserError(
                f"{place}: no column {self.label_column!r}, only {short_repr(row)}; name the "
                "label's column with --data.label_column"
            )
        label = short_repr(row[self.label_column])
        number = _LABELS.get(label.strip("' ").lower())
        if number is None:
            raise UserError(f"{place}: label {label} is outside 0/1 (or neg/pos); map it to them")
        return number


def _find(name: str) -> dict[str, list[Path]]:
    """Return the files of each split in the order in which they are read."""
    with as_user_error(f"cannot read {name!r:.200}", OSError, ValueError):
        root = Path(os.path.realpath(name))
        if root.is_file():
            return {"train": [root]}
        if not root.is_dir():
            raise UserError(f"no such file or folder: {name:.200} (or auto, hub, package)")
        if (root / "train").is_dir():
            found = {split: _texts_in(root / split) for split in ("train", "test")}
        elif (root / "neg").is_dir():
            found = {"train": _texts_in(root)}
        else:
            found = _tables_in(root)
    if not found["train"]:
        expected = f"train|test/pos|neg/*.txt, pos|neg/*.txt, or tables ({', '.join(_TABLES)})"
        raise UserError(f"no reviews in {name}: expected {expected}")
    return found


def _tables_in(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {"train": [], "test": []}
    files = (file for file in sorted(root.iterdir()) if not tables.is_left_behind(file.name))
    for file in files:
        if tables.ending_of(file.name) in _TABLES and file.is_file():
            found["test" if file.name.lower().startswith("test") else "train"].append(file)
    return found


def _texts_in(root: Path) -> list[Path]:
    """Return neg/*.txt and pos/*.txt; no link makes a file outside `root` a review."""
    found: list[Path] = []
    for folder in (root / label for label in _FOLDERS if (root / label).is_dir()):
        if folder.resolve() != folder:
            raise UserError(f"{folder} leads elsewhere: links are not followed")
        texts = [
            entry
            for entry in os.scandir(folder)
            if entry.name.endswith(".txt") and not tables.is_left_behind(entry.name)
        ]
        for entry in texts:
            if not entry.is_file(follow_symlinks=False):
                raise UserError(f"{entry.path} is not a file (links are not followed): remove it")
        found += sorted(map(Path, texts), key=_review_number)
    return found


def _review_number(file: Path) -> tuple[int, str]:
    """Return what sorts 2_9.txt before 10_9.txt: reviews of one film have neighbouring numbers."""
    number = file.stem.split("_")[0]
    return (int(number) if number.isdecimal() else -1, file.name)
