"""What all sections share: the reviews, the workers, the output."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.turns import Worker, environment, last_line
from lit_imdb.data.datamodule import ImdbDataModule

LONGEST = 640  # T of the stored reviews; workers cut off what they do not want
_PEERS = {"keras": "tensorflow", "jax": "jax"}
_OPTIONAL = {*_PEERS, "compile"}


@dataclass
class Setting:
    """One run of the benchmarks.

    Args:
        folder: For everything that is written on the way.
        quick: Whether figures do not matter, only that everything runs.
        peers: Interpreters with TensorFlow (`keras`) and JAX (`jax`), where not this one.
    """

    folder: Path
    quick: bool
    peers: dict[str, str]
    console: Console = field(default_factory=lambda: Console(width=110))

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 15

    @property
    def steps(self) -> int:
        return 4 if self.quick else 40  # half of it a multiple of log_every_n_steps

    @property
    def reviews(self) -> Path:
        return self.folder / "reviews.npz"

    def write_reviews(self) -> None:
        """The package's reviews, encoded: for every worker the same."""
        cache = environment(self.folder)["XDG_CACHE_HOME"]
        longest, ours = (
            ImdbDataModule("package", max_length=length, cache_dir=f"{cache}/lit-imdb")
            for length in (LONGEST, 80)
        )
        ours.prepare_data()  # what the worker `fit` finds in its cache
        longest.prepare_data()
        longest.setup("fit")
        arrays = {}
        for part in ("train", "test"):
            arrays[f"{part}_ids"] = longest.parts[part].ids.numpy()  # (N, LONGEST)
            arrays[f"{part}_labels"] = longest.parts[part].labels.numpy()  # (N,)
        np.savez(self.reviews, **arrays)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Prints a table that can be copied into a Markdown page."""
        table = Table(title=title, box=MARKDOWN, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="right" if index else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(v if isinstance(v, str) else f"{v:,.2f}" for v in row))
        self.console.print(table)

    def command(self, name: str) -> list[str] | None:
        """How to start the worker `name`; None, said aloud, where something is missing."""
        if name in _PEERS:
            python = self.peers.get(name, sys.executable)
            if name not in self.peers and importlib.util.find_spec(_PEERS[name]) is None:
                self.say(f"skipped: {name}, {_PEERS[name]} is not installed (--peer {name}=PYTHON)")
                return None
            return [python, "-m", f"benchmarks.{name}_peer", str(self.reviews)]
        if name == "compile" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            self.say("skipped: compile, torch.compile needs a C++ compiler")
            return None
        module = "benchmarks.breakdown" if name == "breakdown" else "benchmarks.workers"
        return [sys.executable, "-m", module, name, str(self.reviews)]

    @contextmanager
    def workers(self, names: Sequence[str], threads: str = "all") -> Iterator[dict[str, Worker]]:
        """The workers that could be set up, by name; they end with the block.

        Args:
            names: Of workers.
            threads: `all` or `1`.
        """
        with ExitStack() as stack:
            started = {}
            for name in names:
                command = self.command(name)
                if command is None:
                    continue
                fixed = {"steps": 4} if name.startswith("sgemm") else {}
                started[name] = Worker(name, command, self.folder, threads == "1", **fixed)
                stack.callback(started[name].end)
            ready = {}
            for name, worker in started.items():
                if worker.ready():
                    ready[name] = worker
                elif name in _OPTIONAL:
                    self.say(f"skipped: {name}, {last_line(worker.log)}")
                else:
                    raise RuntimeError(f"{name} failed: {last_line(worker.log)}")
            yield ready
