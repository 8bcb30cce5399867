"""Check what a checkpoint file holds, before it is unpickled and before anything uses it.

`weights_only=True` keeps a file from running code. It does not keep a small file from filling the
memory, or from naming files that Lightning then deletes.
"""

import math
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from lit_imdb.data.text import PAD, UNK, TextEncoder
from lit_imdb.model.network import network_of

_MAX_PICKLE = 16 * 2**20  # a vocabulary of a million words; unpickled, it grows some sixty-fold
_MAX_VALUES = 1_000_000
_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {"collections OrderedDict", "collections Counter", "torch._utils _rebuild_tensor_v2"}
_NAMES |= {f"torch {kind}Storage" for kind in _STORAGES}
_VERSION = re.compile(r"[2-9](\.\d+)+((\.?(dev|post)|rc)\d*)?")

_ADDRESS = re.compile("://|::")  # the second chains file systems


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


# Where -> what must hold. `*` is every entry; what ends in `?` may be missing.
_SCHEMA: dict[str, Callable[[Any], Any]] = {
    "epoch": _is_count,
    "global_step": _is_count,
    "pytorch-lightning_version": _VERSION.fullmatch,
    "state_dict/*": lambda weight: torch.isfinite(weight).all(),
    "current_model_state?/*": lambda weight: torch.isfinite(weight).all(),  # not averaged
    "hyper_parameters/*": lambda setting: not _is_dict(setting),
    "hyper_parameters/vocab_size": _is_count,
    "hyper_parameters/lr": lambda number: 0 < number < math.inf,
    "datamodule_hyper_parameters/*": lambda setting: not _is_dict(setting),
    "datamodule_hyper_parameters/source": lambda text: isinstance(text, str),
    "datamodule_hyper_parameters/tokenizer": lambda name: TextEncoder([], name),
    "datamodule_hyper_parameters/max_length": lambda n: (
        _is_count(n) and TextEncoder([], "words", n)
    ),
    "ImdbDataModule/vocabulary": lambda text: text.split("\n", 2)[:2] == [PAD, UNK],
    "training/seed": lambda number: _is_count(number) and number < 2**32,
    "training/since_log_line": lambda sums: len(sums) == 3 and all(map(math.isfinite, sums)),
    "loops?/fit_loop": _is_dict,
    "callbacks?": _is_dict,
    "callbacks?/*": lambda state: _is_dict(state) and _stays_in_its_folder(state),
    "lr_schedulers?/*": _is_dict,
    "optimizer_states?/*/param_groups/*/params": lambda numbers: isinstance(numbers, list),
    "optimizer_states?/*/state/*": lambda s: not any(isinstance(v, str) for v in s.values()),
}


def check_archive(path: Path) -> None:
    """Check a checkpoint's archive without unpickling it.

    Raises:
        UnpicklingError: It names a function or class that no checkpoint needs.
        Exception: Whatever zipfile and pickletools raise on a file that is no archive.
    """
    size = path.stat().st_size
    with path.open("rb") as file:  # torch takes a file that begins otherwise for a bare pickle
        _expect(file.read(4) == b"PK\3\4", "not an archive")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        fits = sum(entry.file_size for entry in entries) <= size
        _expect(stored and fits, "its parts are larger than the file")
        pickles = [entry for entry in entries if entry.filename.lower().endswith("/data.pkl")]
        limit = max(_MAX_PICKLE, size // 10)
        _expect(len(pickles) == 1 and pickles[0].file_size <= limit, "no usable data.pkl")
        for operation, argument, _ in pickletools.genops(archive.read(pickles[0])):
            naming = "GLOBAL" in operation.name or operation.name.startswith(("INST", "EXT"))
            if naming and argument not in _NAMES:
                raise UnpicklingError(str(argument).replace(" ", "."))


def check_plain(content: Any) -> None:
    """Check, whatever the file is, that a walk through it ends and that no tensor is a trick.

    A list may hold another many times or itself; a tensor may repeat the memory of one number. One
    that passes can be read as if its numbers lay side by side, as torch's fused optimizers do.

    Raises:
        ValueError: One of these.
    """
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            end = value.storage_offset() + value.numel()
            inside = end * value.itemsize <= value.untyped_storage().nbytes()
            _expect(inside, "a tensor is larger than its memory")
        elif isinstance(value, dict | list | tuple):
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            count += len(parts)
            _expect(count <= _MAX_VALUES, "its lists are nested too deep or too large")
            waiting += parts


def check_content(checkpoint: dict[str, Any], check_network: bool = True) -> None:
    """Check every value that this program or Lightning relies on.

    Args:
        checkpoint: What was unpickled, after `check_plain`.
        check_network: False is for callers that compare the weights with a network of their own.
            It accepts weights alone, too: processes of a Trainer pass them to each other in a file.

    Raises:
        Exception: Something is missing, of the wrong type or out of range.
    """
    if not check_network and "state_dict" not in checkpoint:
        return
    for place, holds in _SCHEMA.items():
        for name, value in _find(checkpoint, place.split("/")):
            with suppress(Exception):  # such as a value of another type raises
                if holds(value):
                    continue
            raise ValueError(f"its {name} cannot be {value!r:.60}")
    settings = checkpoint["hyper_parameters"]
    words = checkpoint["ImdbDataModule"]["vocabulary"].count("\n") + 1
    _expect(words <= settings["vocab_size"], f"{words} words for {settings['vocab_size']} rows")
    if not check_network:
        return
    shapes = {f"net.{k}": weight.shape for k, weight in network_of(settings).state_dict().items()}
    weights = checkpoint["state_dict"].items()
    found = {k: w.shape for k, w in weights if k.startswith("net.") and w.is_floating_point()}
    hint = "its weights are those of another network; of a class of your own: load(..., model=)"
    _expect(found == shapes, hint)


def _stays_in_its_folder(state: dict[str, Any]) -> bool:
    """Return whether the files that a ModelCheckpoint names, and may delete, are in its folder."""
    folder = Path(str(state.get("dirpath")))
    named = [state.get(f"{which}_model_path") for which in ("best", "kth_best", "last")]
    return all(
        folder in Path(name).parents and ".." not in Path(name).parts and not _ADDRESS.search(name)
        for name in [*named, *(state.get("best_k_models") or ())]
        if name
    )


def _find(value: Any, keys: list[str], name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values that `keys` lead to, with their names; None where there is none."""
    if not keys:
        yield name, value
    elif keys[0] == "*" and isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _find(part, keys[1:], f"{name} {key}".strip())
    else:
        key = keys[0].removesuffix("?")
        part = value.get(key) if isinstance(value, dict) else None
        if part is not None or key == keys[0]:
            yield from _find(part, keys[1:], f"{name} {key}".strip())


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
