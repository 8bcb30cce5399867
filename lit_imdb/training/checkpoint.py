"""Find a run's checkpoint, and read it without running anything that it may hold."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError, as_user_error
from lit_imdb.training import untrusted

LOGS = Path("logs", "imdb")


def run_folders(root: Path) -> list[Path]:
    """Return the runs `root/version_N`, oldest first."""
    runs = [p for p in root.glob("version_*") if p.name.removeprefix("version_").isdecimal()]
    return sorted(runs, key=lambda run: int(run.name.removeprefix("version_")))


def run_of(ckpt_path: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in; None for a file of its own."""
    run = ckpt_path.parent.parent
    return run if run.name.startswith("version_") or (run / "config.yaml").is_file() else None


def run_config(ckpt_path: Path) -> dict[str, Any]:
    """Return the settings of the run that a checkpoint lies in; empty if that is not known.

    Raises:
        UserError: Its config.yaml is broken.
    """
    file = ckpt_path.parent.parent / "config.yaml"
    if not file.is_file():
        return {}
    with as_user_error(f"{file} is broken", yaml.YAMLError):
        config = yaml.safe_load(file.read_bytes())
    if not isinstance(config, dict):
        raise UserError(f"{file} is broken: expected the settings of a run")
    return config


def is_custom(class_path: str) -> bool:
    """Return whether a model's class is another than `LitSentiment`."""
    return class_path not in ("lit_imdb.LitSentiment", "lit_imdb.model.module.LitSentiment")


def link_run(trainer: Any) -> None:
    """Link a run in another folder, such as another logger's, into LOGS: `last` finds it there."""
    root = Path(trainer.default_root_dir, LOGS)
    run = Path(trainer.log_dir).resolve()
    runs = run_folders(root)
    if not trainer.is_global_zero or not trainer.loggers or run in [r.resolve() for r in runs]:
        return
    number = 1 + int(runs[-1].name.removeprefix("version_")) if runs else 0
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / f"version_{number}").symlink_to(run, target_is_directory=True)
    except OSError as error:  # Windows wants a privilege for it
        warnings.warn(f"{root} has no link to {run} ({error}): name its checkpoints", stacklevel=2)


def find_checkpoint(ckpt_path: str, root: Path = LOGS) -> Path:
    """Return the file that `best`, `last` or a path means.

    `best` is the newest there is; `last` is the newest run's own, never that of a run before it.

    Raises:
        UserError: There is no such file, or the path is an address.
    """
    runs = [run.resolve() if run.is_symlink() else run for run in run_folders(root)]
    if ckpt_path in ("best", "last"):
        searched = runs if ckpt_path == "best" else runs[-1:]
        files = [run / "checkpoints" / f"{ckpt_path}.ckpt" for run in searched]
        found = [file for file in files if file.is_file()]
        if found:
            return found[-1]
        place = files[-1].parent if files else root
        raise UserError(f"no {ckpt_path} checkpoint in {place}: train one with `python train.py`")
    if "://" in ckpt_path:
        raise UserError(f"{ckpt_path}: addresses are refused; download it yourself")
    path = Path(ckpt_path)
    if not path.is_file():
        held = "".join(f" such as {found}," for found in sorted(path.rglob("*.ckpt"))[:1])
        raise UserError(f"no checkpoint {path}: expected a file,{held} or `best` or `last`")
    return path


def read_checkpoint(path: Path, check_network: bool = True) -> dict[str, Any]:
    """Read a checkpoint of this program; it holds tensors and plain values only.

    Args:
        path: The file.
        check_network: False leaves that to the caller: see `untrusted.check_content`.

    Raises:
        UserError: Damaged, not one of this program's, or holding pickled code.
    """
    try:
        untrusted.check_archive(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = f"it holds code or is damaged ({error!s:.80})"
        raise UserError(f"{path} is refused: {reason}; use one that train.py wrote") from error
    except Exception as error:  # a damaged file raises anything
        raise UserError(f"{path} is damaged or no checkpoint that train.py wrote") from error
    # a value of an unexpected type raises anything, too
    advice = "train one with train.py"
    with as_user_error(f"{path} is not a checkpoint of this program", Exception, advice=advice):
        untrusted.check_plain(checkpoint)
        _name_data_state(checkpoint)
        _apply_masks(checkpoint.get("state_dict", {}))
        untrusted.check_content(checkpoint, check_network)
    return checkpoint


def encoder_of(checkpoint: dict[str, Any]) -> TextEncoder:
    """Build the encoder of a checkpoint, which turns texts into ids for its network."""
    settings = checkpoint["datamodule_hyper_parameters"]
    vocabulary = checkpoint["ImdbDataModule"]["vocabulary"].split("\n")
    return TextEncoder(vocabulary, settings["tokenizer"], settings["max_length"])


def _name_data_state(checkpoint: dict[str, Any]) -> None:
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
        raise UserError(f"{path} holds the weights alone: resume from last.ckpt or the like")


def check_sizes(path: Path, checkpoint: dict[str, Any], model: Any) -> None:
    """Check that the weights of `checkpoint` fit into `model`, given by its settings.

    Raises:
        UserError: They do not, because of the command line or a config file.
    """
    for name in ("vocab_size", "embedding_dim", "hidden_dim"):
        value = checkpoint["hyper_parameters"].get(name)
        asked = model.get(name, value)
        if asked != value:
            group = "data" if name == "vocab_size" else "model"
            what = f"--{group}.{name} {asked}"
            raise UserError(f"{what}: the weights in {path} are for {value}; leave it out")
