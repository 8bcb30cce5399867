"""Keeps a failure of the review from ending a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities import rank_zero_warn


class Guard:
    """`with guard("the word space"):` turns an exception into a warning, once for each name."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if what not in self._warned:
                self._warned.add(what)
                message = " ".join(f"{type(error).__name__}: {error}".split())
                rank_zero_warn(f"the review goes on without {what}: {message}", stacklevel=4)
