"""Finding a run's checkpoint and reading it without running anything that it may hold."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from lit_imdb.errors import UserError
from lit_imdb.untrusted import HoldsCodeError, check_archive, check_content

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


def _move(state: dict[str, Any], folder: Path) -> None:
    """Has a ModelCheckpoint's state, which names its files, mean those in `folder`."""

    def moved(name: str) -> str:
        return str(folder / Path(name).name)

    if not Path(moved(state.get("best_model_path") or "")).is_file():
        return
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        if state.get(key):
            state[key] = moved(state[key])
    scores = state.get("best_k_models") or {}
    state["best_k_models"] = {moved(name): score for name, score in scores.items()}
    state["dirpath"] = str(folder)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, even when the power fails or the disk is full."""

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What `read_checkpoint` gives, whatever was asked for: nothing else is ever loaded.

        Where it lies in a run folder, so do the files that it names, wherever they were before.
        """
        checkpoint = read_checkpoint(Path(path))
        if run_of(str(path)):
            for state in checkpoint.get("callbacks", {}).values():
                _move(state, Path(path).parent)
        return checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes beside `path`, waits for the disk, then takes the place of what was there.

        Raises:
            UserError: The file cannot be written; the old one is still good.
        """
        path = Path(path)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk into a RuntimeError
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"cannot write {path} ({error}): free some space; the checkpoints written before "
                "are good, and `python train.py fit --ckpt_path last` goes on from them"
            ) from error
