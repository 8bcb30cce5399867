"""The checkpoint that a model comes from, and how good it was in validation."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from typing_extensions import Self

WEAK = 0.55  # validation accuracy below which a model is close to guessing


@dataclass(frozen=True)
class Origin:
    """Name and validation accuracy (0 to 1, None if unknown) of a checkpoint.

    >>> print(Origin(Path("best.ckpt"), 0.8064))
    model: best.ckpt, validation accuracy 80.6 %
    """

    path: Path
    accuracy: float | None

    @classmethod
    def of(cls, path: Path, checkpoint: dict[str, Any]) -> Self:
        """Read the accuracy from what callbacks have left in a checkpoint."""
        return cls(path, _accuracy(path, checkpoint))

    def __str__(self) -> str:
        return f"model: {self.path}, validation accuracy {self.percent}"

    def report(self) -> None:
        """Print name, accuracy and warning on standard error."""
        print(self, file=sys.stderr)
        self.warn()

    def warn(self) -> None:
        """Print the warning on standard error, if there is one."""
        if self.warning:
            print(f"warning: {self.warning}", file=sys.stderr)

    @property
    def percent(self) -> str:
        return "unknown" if self.accuracy is None else f"{100 * self.accuracy:.1f} %"

    @property
    def warning(self) -> str:
        """A sentence about a model that has learned next to nothing; empty for the others."""
        if self.accuracy is None or self.accuracy >= WEAK:
            return ""
        return (
            f"this model is close to guessing (validation accuracy {self.percent}): "
            "train one with `python train.py`"
        )


UNNAMED = Origin(Path("unnamed"), None)


def _accuracy(path: Path, checkpoint: dict[str, Any]) -> float | None:
    """The validation accuracy of these very weights, if a callback's state has it.

    ModelCheckpoint knows the score of each file that it wrote. `last.ckpt` is another callback's:
    its accuracy is the last one in History, unless training has gone on since.
    """
    for state in checkpoint.get("callbacks", {}).values():
        scores = state.get("best_k_models")
        if state.get("monitor") == "val/acc" and isinstance(scores, dict):
            for name, score in scores.items():
                if Path(str(name)).name == path.name:
                    return _share(score)
    for state in checkpoint.get("callbacks", {}).values():
        validations = state.get("validations")
        last = validations[-1] if isinstance(validations, list) and validations else None
        if isinstance(last, dict) and last.get("epoch") == checkpoint["epoch"] + 1:
            return _share(last.get("val/acc"))
    return None


def _share(value: Any) -> float | None:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    usable = isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1
    return float(value) if usable else None
