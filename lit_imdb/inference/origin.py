"""The checkpoint that a model comes from, and how good it was in validation."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WEAK = 0.55  # validation accuracy below which a model is close to guessing


@dataclass(frozen=True)
class Origin:
    """Name, validation accuracy (0 to 1, None if unknown) and training data of a checkpoint.

    >>> print(Origin(Path("best.ckpt"), 0.8064))
    model: best.ckpt, validation accuracy 80.6%
    """

    path: Path
    accuracy: float | None = None
    source: str = "unknown"  # hub, package or the path of a file or folder

    def __str__(self) -> str:
        return f"model: {self.path}, validation accuracy {self.quality}"

    @property
    def quality(self) -> str:
        """The accuracy in words, with a warning where a model has learned next to nothing."""
        if self.accuracy is None:
            return "unknown"
        warning = " (warning: close to guessing)" if self.accuracy < _WEAK else ""
        return f"{self.accuracy:.1%}{warning}"


def origin_of(path: Path, checkpoint: dict[str, Any]) -> Origin:
    """Return where a checkpoint's weights come from, with the accuracy of these very weights."""
    accuracy = None
    with suppress(AttributeError, LookupError, TypeError, ValueError):  # nothing checks History
        last = checkpoint["callbacks"]["History"]["validations"][-1]
        if last["step"] == checkpoint["global_step"]:  # otherwise training has gone on since
            accuracy = float(last["val/acc"])
    return Origin(path, accuracy, checkpoint["datamodule_hyper_parameters"]["source"])
