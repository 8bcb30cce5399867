"""The forms in which answers are written: JSON lines, CSV and Parquet."""

import csv
import io
import json
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from lit_imdb.data.tables import Row

_to_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


class Format(Protocol):
    """Writes rows into a file, a batch at a time."""

    def write(self, rows: list[Row]) -> None:
        """Adds rows; raises ValueError where one does not fit the first ones."""

    def close(self) -> None:
        """Writes what belongs at the end; the file stays open."""


class JsonLines:
    """One JSON object a line; rows may have different columns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: list[Row]) -> None:
        lines = "".join([_to_json(row) + "\n" for row in rows])
        # a lone surrogate becomes \udc80, which JSON reads as itself
        self._file.write(lines.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Nothing belongs at the end."""


class Csv:
    """CSV with a header line; a list or an object in a row is written as JSON."""

    def __init__(self, file: BinaryIO, columns: list[str]) -> None:
        self._file = file
        # lines end in \r\n: Python before 3.13 quotes a lone \r in a text only then
        self._buffer = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._buffer, columns)
        self._writer.writeheader()

    def write(self, rows: list[Row]) -> None:
        self._writer.writerows([{k: _cell(v) for k, v in row.items()} for row in rows])
        self._file.write(self._buffer.getvalue().encode("utf-8", "backslashreplace"))
        self._buffer.seek(0)
        self._buffer.truncate()

    def close(self) -> None:
        """Nothing belongs at the end."""


def _cell(value: Any) -> Any:
    return _to_json(value) if isinstance(value, dict | list) else value


class Parquet:
    """Parquet with the columns and types of `schema`."""

    def __init__(self, file: BinaryIO, schema: Any) -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._names = set(schema.names)
        self._writer = pq.ParquetWriter(file, schema)

    def write(self, rows: list[Row]) -> None:
        import pyarrow as pa

        for row in rows:
            if not row.keys() <= self._names:
                raise ValueError(f"columns {row.keys() - self._names} are new")
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def schema_of(rows: list[Row], columns: list[str], types: dict[str, Any], like: Path | None) -> Any:
    """A Parquet schema for `columns`.

    Args:
        rows: The first rows, which say the types that are not known.
        columns: All columns, in order.
        types: Those known beforehand: "string", "double".
        like: The input file; a .parquet file's own types are kept.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = {name: getattr(pa, kind)() for name, kind in types.items()}
    if like is not None and like.suffix.lower() == ".parquet":
        known = {field.name: field.type for field in pq.read_schema(like)} | known
    fields = []
    for column in columns:
        kind = known.get(column)
        if kind is None:
            kind = pa.array([row.get(column) for row in rows]).type
        # nothing but nulls so far: texts are what mostly comes later
        fields.append((column, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)
