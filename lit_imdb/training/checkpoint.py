"""Find a run's checkpoint, and read it without running anything that it may hold."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lit_imdb.errors import UserError
from lit_imdb.training.untrusted import (
    HoldsCodeError,
    check_archive,
    check_content,
    check_plain,
    shapes_of,
)

LOGS = Path("logs", "imdb")


def run_folders(root: Path) -> list[Path]:
    """The runs `root/version_N`, oldest first."""
    runs = [p for p in root.glob("version_*") if p.name.removeprefix("version_").isdecimal()]
    return sorted(runs, key=lambda run: int(run.name.removeprefix("version_")))


def run_of(ckpt_path: str | None) -> Path | None:
    """The run folder that a checkpoint lies in; None for a file of its own."""
    if ckpt_path is None:
        return None
    run = Path(ckpt_path).parent.parent
    return run if run.name.startswith("version_") else None


def find_checkpoint(ckpt_path: str, root: Path = LOGS) -> Path:
    """The file that `best`, `last` or a path means.

    `best` is the newest there is; `last` is the newest run's own, never that of a run before it.

    Raises:
        UserError: There is no such file, or the path is an address.
    """
    runs = run_folders(root)
    if ckpt_path == "best":
        found = [file for run in runs if (file := run / "checkpoints" / "best.ckpt").is_file()]
        if found:
            return found[-1]
        raise UserError(
            f"no best checkpoint in {root}: train one with `python train.py`, "
            "or name a file with --ckpt_path FILE"
        )
    if ckpt_path == "last":
        path = runs[-1] / "checkpoints" / "last.ckpt" if runs else root
        if path.is_file():
            return path
        raise UserError(
            f"no last checkpoint in {f'the newest run {runs[-1]}' if runs else root}: "
            "nothing was trained yet, start with `python train.py fit`"
        )
    if "://" in ckpt_path:
        raise UserError(
            f"--ckpt_path {ckpt_path}: addresses are refused, since a checkpoint from the network "
            "cannot be trusted; download it yourself and name the file"
        )
    path = Path(ckpt_path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: expected a file, or `best` or `last`")
    return path


def read_checkpoint(path: Path, for_trainer: bool = False) -> dict[str, Any]:
    """Read a checkpoint of this program; it holds tensors and plain values only.

    Args:
        path: The file.
        for_trainer: A Trainer asked for it: see `check_content`.

    Raises:
        UserError: Damaged, not one of this program's, or holding pickled code.
    """
    try:
        check_archive(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (HoldsCodeError, pickle.UnpicklingError) as error:
        named = f" ({error!s:.80})" if isinstance(error, HoldsCodeError) else ""
        raise UserError(
            f"{path} is refused: it holds more than tensors and plain values{named}, which could "
            "run code on this machine, or it is damaged; use a checkpoint that train.py wrote"
        ) from error
    except Exception as error:  # a damaged file raises anything
        raise UserError(
            f"{path} is damaged or no checkpoint: expected a file that train.py wrote"
        ) from error
    try:
        check_plain(checkpoint)
        _find_vocabulary(checkpoint)
        _apply_masks(checkpoint.get("state_dict", {}))
        check_content(checkpoint, for_trainer)
    except Exception as error:  # as does a value of an unexpected type
        raise UserError(
            f"{path} is not a checkpoint of this program: {error!s:.200}; train one with train.py"
        ) from error
    return checkpoint


def _find_vocabulary(checkpoint: dict[str, Any]) -> None:
    """Give the state of a subclass of `ImdbDataModule` the name that is read."""
    for state in list(checkpoint.values()):
        if isinstance(state, dict) and "vocabulary" in state:
            checkpoint.setdefault("ImdbDataModule", state)


def _apply_masks(weights: dict[str, torch.Tensor]) -> None:
    """Multiply NAME_orig by NAME_mask into NAME: ModelPruning may leave them apart."""
    for name in [name.removesuffix("_mask") for name in weights if name.endswith("_mask")]:
        weight, mask = weights.pop(f"{name}_orig"), weights.pop(f"{name}_mask")
        weights[name] = weight.mul_(mask)  # in place: a mask of another shape cannot enlarge it


def check_resumable(path: Path, checkpoint: dict[str, Any]) -> None:
    """Raise `UserError` if training cannot go on from `checkpoint`."""
    missing = {"optimizer_states", "lr_schedulers", "callbacks"} - checkpoint.keys()
    if missing:
        raise UserError(
            f"{path} holds the weights alone (save_weights_only), without the state of the "
            "optimizer: `fit` resumes from a whole checkpoint, such as last.ckpt"
        )


def check_sizes(path: Path, checkpoint: dict[str, Any], model: Mapping[str, Any]) -> None:
    """Check that the weights of `checkpoint` fit into `model`, given by its settings.

    Raises:
        UserError: They do not, because of the command line or a config file.
    """
    saved = checkpoint["hyper_parameters"]
    for name, value in saved.items():
        asked = model.get(name, value)
        if asked != value and shapes_of({**saved, name: asked}) != shapes_of(saved):
            group = "data" if name == "vocab_size" else "model"
            raise UserError(
                f"--{group}.{name} {asked}: the weights in {path} are for {value}; "
                "leave it out, or retrain without --ckpt_path"
            )
