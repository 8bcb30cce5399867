"""Finding a run's checkpoint and reading it without running anything that it may hold."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lit_imdb.errors import UserError

LOGS = Path("logs", "imdb")


def run_folders(root: Path) -> list[Path]:
    """The runs `root/version_N`, oldest first."""
    runs = [p for p in root.glob("version_*") if p.name.removeprefix("version_").isdecimal()]
    return sorted(runs, key=lambda run: int(run.name.removeprefix("version_")))


def find_checkpoint(ckpt_path: str, root: Path = LOGS) -> Path:
    """The file that `best`, `last` or a path means; `best` and `last` are the newest run's.

    Raises:
        UserError: There is no such file, or the path is an address.
    """
    if ckpt_path in ("best", "last"):
        found = [run / "checkpoints" / f"{ckpt_path}.ckpt" for run in run_folders(root)]
        files = [file for file in found if file.is_file()]
        if not files:
            raise UserError(
                f"no {ckpt_path} checkpoint in {root}: train one with `python train.py`, "
                "or name a file with --ckpt_path FILE"
            )
        return files[-1]
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
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it holds more than tensors and plain values, which could run code "
            "on this machine, or it is damaged; use a checkpoint that train.py wrote"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{path} is damaged or no checkpoint: expected a file that train.py wrote"
        ) from error
    wanted = ("state_dict", "hyper_parameters", "datamodule_hyper_parameters", "ImdbDataModule")
    if not isinstance(checkpoint, dict) or not all(name in checkpoint for name in wanted):
        raise UserError(f"{path} is not a checkpoint of this program: train one with train.py")
    return checkpoint
