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
    train|test/pos|neg/*.txt or pos|neg/*.txt. `name` is the path; see `ImdbDataModule` for the
    others.
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
        return [[tables.stamp(file) for file, _ in _find(self.name)], asdict(self)]

    def reviews(self) -> Iterator[tuple[str, int, bool]]:
        for file, is_test in _find(self.name):
            for text, label in self._read(file):
                yield text, label, is_test

    def _read(self, file: Path) -> Iterator[tuple[str, int]]:
        if file.suffix == ".txt" and file.parent.name in _FOLDERS:
            yield tables.read_text(file, self.encoding), _FOLDERS[file.parent.name]
            return
        rows = tables.read_rows(file, self.encoding, self.text_column)
        for number, row in enumerate(rows, 1):
            text = row[self.text_column] or ""
            label = _LABELS.get(short_repr(row.get(self.label_column)).strip("' ").lower())
            if not text.strip():
                label = 0  # Excel leaves rows without a text or label below the data
            if label is None:
                raise UserError(
                    f"{file}, data row {number}: expected 0/1 or neg/pos in the column "
                    f"{self.label_column!r}, found {short_repr(row)}; map the labels to these, or "
                    "name their column with --data.label_column"
                )
            yield text, label


def _find(name: str) -> list[tuple[Path, bool]]:
    """Return the files in reading order, and of each whether it belongs to the test split."""
    test: list[Path] = []
    advice = "expected a file or a folder (or auto, hub, package)"
    with as_user_error(f"cannot read {name!r:.200}", OSError, ValueError, advice=advice):
        root = Path(os.path.realpath(name))
        if root.is_file():
            train = [root]
        elif (root / "train").is_dir():
            train, test = _texts_in(root / "train"), _texts_in(root / "test")
        elif (root / "neg").is_dir():
            train = _texts_in(root)
        else:
            found = [file for file in sorted(root.iterdir()) if _is_table(file)]
            test = [file for file in found if file.name.lower().startswith("test")]
            train = [file for file in found if file not in test]
    if not train:
        expected = f"train|test/pos|neg/*.txt, pos|neg/*.txt, or tables ({', '.join(_TABLES)})"
        raise UserError(f"no reviews in {name}: expected {expected}")
    return [(file, False) for file in train] + [(file, True) for file in test]


def _is_table(file: Path) -> bool:
    return file.match(tables.OWN) and tables.ending_of(file.name) in _TABLES and file.is_file()


def _texts_in(root: Path) -> list[Path]:
    """Return neg/*.txt and pos/*.txt; no link makes a file outside `root` a review."""
    found: list[Path] = []
    for folder in (root / label for label in _FOLDERS):
        if folder.resolve() != folder:
            raise UserError(f"{folder} leads elsewhere: links are not followed")
        found += sorted(tables.texts_in(folder), key=_review_number)
    return found


def _review_number(file: Path) -> tuple[int, str]:
    """Return what sorts 2_9.txt before 10_9.txt: reviews of one film have neighbouring numbers."""
    number = file.stem.split("_")[0]
    return (int(number) if number.isdecimal() else -1, file.name)
