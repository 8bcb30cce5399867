"""Rows and their answers on the way out: JSON lines, CSV or Parquet."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from lit_imdb.data.tables import Row
from lit_imdb.errors import UserError, as_user_error
from lit_imdb.files import whole_file
from lit_imdb.inference.classifier import Prediction

COLUMNS = ("label", "probability", "unknown_words", "reason")  # that a row gains
Rows = Iterator[list[Row]]

_to_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


def write_answers(
    blocks: Iterator[tuple[list[Row], list[Prediction]]], output: str | None, like: Path
) -> None:
    """Write rows with their answers to `output`, which appears when it is complete, or to stdout.

    A row keeps its own columns. If one of the first block has a column with the name of an
    answer's, `label` for example, the answer's gets `predicted_` in front. `like`, the input,
    passes its column types on if it is a Parquet file.

    Raises:
        UserError: An unknown ending, a file that cannot be written, or a row that does not fit.
    """
    ending = Path(output).suffix.lower() if output else ".jsonl"
    if ending not in FORMATS:
        raise UserError(f"{output}: unknown ending {ending!r}, expected {', '.join(FORMATS)}")
    opened = whole_file(Path(output)) if output else nullcontext(sys.stdout.buffer)
    problem, advice = "a row does not fit the first ones", "write .jsonl, which takes any columns"
    with (
        as_user_error(f"cannot write {output or 'standard output'}", OSError),
        as_user_error(problem, ValueError, advice=advice),  # pyarrow's errors are ValueErrors too
        opened as file,
    ):
        first = next(blocks)
        columns = list(dict.fromkeys(name for row in first[0] for name in row))
        names = [_free(name, columns) for name in COLUMNS]
        joined = (_join(*block, names) for block in chain([first], blocks))
        FORMATS[ending](file, [*columns, *names], joined, like)


def _free(name: str, taken: list[str]) -> str:
    return _free(f"predicted_{name}", taken) if name in taken else name


def _join(rows: list[Row], answers: list[Prediction], names: list[str]) -> list[Row]:
    for row, answer in zip(rows, answers, strict=True):
        if not row.keys().isdisjoint(names):
            raise ValueError(f"it has a column of the answer's: {', '.join(names)}")
        shares = [share and round(share, 6) for share in (answer.probability, answer.unknown_words)]
        row.update(zip(names, (answer.label, *shares, answer.reason), strict=True))
    return rows


def _json_lines(file: Any, columns: list[str], blocks: Rows, like: Path) -> None:
    for rows in blocks:
        lines = "".join([_to_json(row) + "\n" for row in rows])
        # a lone surrogate becomes \udc80, which JSON reads as itself
        file.write(lines.encode("utf-8", "backslashreplace"))
        file.flush()  # whoever reads a pipe gets it at once


def _csv(file: Any, columns: list[str], blocks: Rows, like: Path) -> None:
    """Write a header line and the rows; lists and objects as JSON."""
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for row in chain.from_iterable(blocks):
        nested = {k: _to_json(v) for k, v in row.items() if isinstance(v, dict | list)}
        writer.writerow({**row, **nested})
    text.detach()  # flushes it


def _parquet(file: Any, columns: list[str], blocks: Rows, like: Path) -> None:
    """Write columns of the types that they have in `like`, or else in the first rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(blocks)
    text, number = pa.string(), pa.float64()
    types = dict(zip(columns[-len(COLUMNS) :], (text, number, number, text), strict=True))
    if like.suffix.lower() == ".parquet":
        types |= {field.name: field.type for field in pq.read_schema(like)}
    for name in columns:
        if name not in types:
            found = pa.array([row.get(name) for row in first]).type
            types[name] = text if pa.types.is_null(found) else found  # most likely, where all are
    schema = pa.schema([(name, types[name]) for name in columns])
    with pq.ParquetWriter(file, schema) as writer:
        for rows in chain([first], blocks):
            if any(row.keys() - types for row in rows):
                raise ValueError(f"expected the columns {', '.join(columns)}")
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


FORMATS: dict[str, Callable[[Any, list[str], Rows, Path], None]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
