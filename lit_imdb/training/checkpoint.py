"""Finding a run's checkpoint and reading it without running anything that it may hold."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lit_imdb.errors import UserError
from lit_imdb.training.untrusted import HoldsCodeError, check_archive, check_content

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
    if ckpt_path == "best":
        found = [run / "checkpoints" / "best.ckpt" for run in run_folders(root)]
        files = [file for file in found if file.is_file()]
        if not files:
            raise UserError(
                f"no best checkpoint in {root}: train one with `python train.py`, "
                "or name a file with --ckpt_path FILE"
            )
        return files[-1]
    if ckpt_path == "last":
        runs = run_folders(root)
        path = runs[-1] / "checkpoints" / "last.ckpt" if runs else root
        if not path.is_file():
            which = f"the newest run {runs[-1]}" if runs else f"{root}"
            raise UserError(
                f"no last checkpoint in {which}: nothing was trained yet, start with "
                "`python train.py fit`"
            )
        return path
    if "://" in ckpt_path:
        raise UserError(
            f"--ckpt_path {ckpt_path}: addresses are refused, since a checkpoint from the network "
            "cannot be trusted; download it yourself and name the file"
        )
    path = Path(ckpt_path)
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: expected a file, or `best` or `last`")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this program; tensors and plain values only.

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
    except Exception as error:  # the readers raise anything on bytes that nobody wrote
        raise UserError(
            f"{path} is damaged or no checkpoint: expected a file that train.py wrote"
        ) from error
    try:
        check_content(checkpoint)
    except Exception as error:  # the same: nothing in the file is what it should be
        raise UserError(
            f"{path} is not a checkpoint of this program: {error!s:.200}; train one with train.py"
        ) from error
    return checkpoint


def check_sizes(path: Path, checkpoint: dict[str, Any], model: Mapping[str, Any]) -> None:
    """Whether the weights of `checkpoint` fit into `model`, given by its settings.

    Raises:
        UserError: They do not, which the command line or a config file has asked for.
    """
    saved = checkpoint["hyper_parameters"]
    for name in ("vocab_size", "embedding_dim", "hidden_dim"):
        if model[name] != saved[name]:
            group = "data" if name == "vocab_size" else "model"
            raise UserError(
                f"--{group}.{name} {model[name]}: the weights in {path} are for {saved[name]}; "
                "leave it out, or train anew without --ckpt_path"
            )
