"""Where labelled reviews come from.

A new source is a class like those in hub.py and package.py, and one entry in `SOURCES`.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from lit_imdb.data.folders import Files
from lit_imdb.data.hub import Hub
from lit_imdb.data.package import Package


class Source(Protocol):
    """Labelled reviews in a fixed order.

    Attributes:
        name: What the user types as --data.source.
        note: What the model card says of the data.
        licence: What the model card says of the data's licence.
    """

    name: str
    note: str
    licence: str

    def fingerprint(self) -> object:
        """Return a JSON value that changes when the reviews may have changed, without reading."""

    def reviews(self) -> Iterator[tuple[str, int, bool]]:
        """Stream the reviews; called several times.

        Yields:
            The text, which may be empty; the label, 0 or 1; whether the source itself has the
            review in a test split.

        Raises:
            UserError: The reviews cannot be found or read.
        """


SOURCES: dict[str, Callable[[], Source]] = {"hub": Hub, "package": Package}


def open_source(name: str, **file_options: str) -> Source:
    """Return the source called `name`, or the files at that path: `Files` has the options."""
    return SOURCES[name]() if name in SOURCES else Files(name, **file_options)
