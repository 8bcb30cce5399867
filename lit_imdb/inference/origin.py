"""The checkpoint that a model comes from, and how good it was in validation."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_imdb.errors import program

WEAK = 0.55  # validation accuracy below which a model is close to guessing


@dataclass(frozen=True)
class Origin:
    """Name, validation accuracy (0 to 1, None if unknown) and training data of a checkpoint.

    >>> print(Origin(Path("best.ckpt"), 0.8064))
    model: best.ckpt, validation accuracy 80.6%
    """

    path: Path
    accuracy: float | None = None
    source: str = "unknown"  # hub, package or the name of a file or folder

    def __str__(self) -> str:
        return f"model: {self.path}, validation accuracy {self.percent}"

    @property
    def percent(self) -> str:
        return "unknown" if self.accuracy is None else f"{self.accuracy:.1%}"

    @property
    def warning(self) -> str:
        """A sentence about a model that has learned next to nothing; empty for the others."""
        if self.accuracy is None or self.accuracy >= WEAK:
            return ""
        return (
            f"this model is close to guessing (validation accuracy {self.percent}): "
            f"train one with `{program()}`"
        )

    def announce(self) -> None:
        """Print name, accuracy and warning on standard error."""
        print(self, file=sys.stderr)
        if self.warning:
            print(f"warning: {self.warning}", file=sys.stderr)


def origin_of(path: Path, checkpoint: dict[str, Any]) -> Origin:
    """Return where a checkpoint's weights come from, with the accuracy of these very weights."""
    source = Path(checkpoint["datamodule_hyper_parameters"].get("source", "unknown"))
    return Origin(path, _accuracy(path.name, checkpoint), source.name)  # not where it lies


def _accuracy(name: str, checkpoint: dict[str, Any]) -> float | None:
    """Return the validation accuracy if known.

    ModelCheckpoint knows the score of each file that it wrote. `last.ckpt` is another callback's:
    its accuracy is the last one in History, unless training has gone on since.
    """
    try:
        for state in checkpoint.get("callbacks", {}).values():
            if state.get("monitor") == "val/acc":
                for file, score in state["best_k_models"].items():
                    if Path(file).name == name:
                        return float(score)
            for last in state.get("validations", [])[-1:]:
                if last["epoch"] == checkpoint["epoch"] + 1:
                    return float(last["val/acc"])
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # a callback of another program
    return None
