"""Check what a checkpoint file holds, before it is unpickled and before anything uses it.

`weights_only=True` keeps a file from running code. It does not keep a small file from filling the
memory, from naming files that Lightning then deletes, or from giving an optimizer a state shorter
than its weight, which torch's fused kernels write past.
"""

import math
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_imdb.data.text import PAD, UNK, TextEncoder
from lit_imdb.model.network import network_of

_MAX_PICKLE = 16 * 2**20  # a vocabulary of a million words; unpickled, it grows some sixty-fold
_MAX_DEPTH, _MAX_VALUES = 20, 5_000_000
_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {"collections OrderedDict", "collections Counter", "torch._utils _rebuild_tensor_v2"}
_NAMES |= {f"torch {kind}Storage" for kind in _STORAGES}
_VERSION = re.compile(r"[2-9](\.\d+)+((\.?(dev|post)|rc)\d*)?")
# The states that torch's fused optimizers (Adam, AdamW, SGD, Adagrad) write.
FUSED_STATES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "sum")

# Where -> what must hold. `*` is every entry; what ends in `?` may be missing.
_SCHEMA: dict[str, Callable[[Any], Any]] = {
    "epoch": lambda number: type(number) is int and number >= 0,
    "global_step": lambda number: type(number) is int and number >= 0,
    "pytorch-lightning_version": lambda text: _VERSION.fullmatch(text),
    "state_dict/*": lambda weight: torch.isfinite(weight).all(),
    "current_model_state?/*": lambda weight: torch.isfinite(weight).all(),  # not averaged
    "hyper_parameters/*": lambda setting: not isinstance(setting, dict),
    "hyper_parameters/vocab_size": lambda number: type(number) is int,
    "hyper_parameters/lr": lambda number: 0 < number < math.inf,
    "datamodule_hyper_parameters/*": lambda setting: not isinstance(setting, dict),
    "datamodule_hyper_parameters/source": lambda text: isinstance(text, str),
    "datamodule_hyper_parameters/tokenizer": lambda name: TextEncoder([], name),
    "datamodule_hyper_parameters/max_length": lambda n: (
        type(n) is int and TextEncoder([], "words", n)
    ),
    "ImdbDataModule/vocabulary": lambda text: text.split("\n", 2)[:2] == [PAD, UNK],
    "training/seed": lambda number: type(number) is int and 0 <= number < 2**32,
    "loops?/fit_loop": lambda state: isinstance(state, dict),
    "callbacks?": lambda states: isinstance(states, dict),
    "callbacks?/*": lambda state: isinstance(state, dict),
    "lr_schedulers?/*": lambda state: isinstance(state, dict),
    "optimizer_states?/*/param_groups/*/params": lambda numbers: isinstance(numbers, list),
    "optimizer_states?/*/state/*": lambda s: not any(isinstance(v, str) for v in s.values()),
    "optimizer_states?/*/state/*/step?": lambda step: torch.as_tensor(step).dim() == 0,
}


class HoldsCodeError(ValueError):
    """The file names something other than tensors and plain values."""


def check_archive(path: Path) -> None:
    """Check a checkpoint's archive without unpickling it.

    Raises:
        HoldsCodeError: It names a function or class that no checkpoint needs.
        Exception: Whatever zipfile and pickletools raise on a file that is no archive.
    """
    size = path.stat().st_size
    with path.open("rb") as file:  # torch takes a file that begins otherwise for a bare pickle
        _expect(file.read(4) == b"PK\3\4", "not an archive")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _expect(
            all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            and sum(entry.file_size for entry in entries) <= size,
            "its parts are larger than the file",
        )
        pickles = [entry for entry in entries if entry.filename.lower().endswith("/data.pkl")]
        limit = max(_MAX_PICKLE, size // 10)
        _expect(len(pickles) == 1 and pickles[0].file_size <= limit, "no usable data.pkl")
        for operation, argument, _ in pickletools.genops(archive.read(pickles[0])):
            naming = "GLOBAL" in operation.name or operation.name.startswith(("INST", "EXT"))
            if naming and argument not in _NAMES:
                raise HoldsCodeError(str(argument).replace(" ", "."))


def check_content(checkpoint: Any, for_trainer: bool = False) -> None:
    """Check every value that this program or Lightning relies on.

    Args:
        checkpoint: What was unpickled.
        for_trainer: Leave the network to the Trainer, which compares the weights with its own, and
            accept weights without settings, which its processes pass to each other in a file.

    Raises:
        Exception: Something is missing, of the wrong type or out of range.
    """
    _check_plain(checkpoint)
    if for_trainer and "state_dict" not in checkpoint:
        return
    for place, holds in _SCHEMA.items():
        for name, value in _find(checkpoint, place.split("/")):
            with suppress(Exception):  # such as a value of another type raises
                if holds(value):
                    continue
            raise ValueError(f"its {name} cannot be {value!r:.60}")
    settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    words = checkpoint["ImdbDataModule"]["vocabulary"].count("\n") + 1
    _expect(words <= settings["vocab_size"], f"{words} words for {settings['vocab_size']} rows")
    if not for_trainer:
        _check_network(settings, weights)
    for optimizer in checkpoint.get("optimizer_states", []):
        _check_optimizer(optimizer, Counter(weight.shape for weight in weights.values()))
    for state in checkpoint.get("callbacks", {}).values():
        _check_files(state)


def shapes_of(settings: Mapping[str, Any]) -> dict[str, torch.Size]:
    """The weights' names and shapes in a network with these settings."""
    with torch.device("meta"):  # needs no memory
        net = network_of(settings)
    return {f"net.{name}": weight.shape for name, weight in net.state_dict().items()}


def _check_plain(root: Any) -> None:
    """Walk all values without recursion; what is shared counts each time, as in a copy."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        _expect(depth <= _MAX_DEPTH and seen <= _MAX_VALUES, "nested too deep or too large")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, Tensor):
            _expect(_is_plain_tensor(value), "a tensor that is not a plain one")


def _check_network(settings: dict[str, Any], weights: dict[str, Tensor]) -> None:
    shapes = shapes_of(settings)
    found = {  # ModelPruning keeps some as NAME_orig and NAME_mask
        name.removesuffix("_orig"): weight
        for name, weight in weights.items()
        if name.startswith("net.") and not name.endswith("_mask")
    }
    hint = "its weights are those of another network; of a class of your own: load(..., model=)"
    _expect(found.keys() == shapes.keys(), hint)
    for name, weight in found.items():
        fits = weight.shape == shapes[name] and weight.is_floating_point()
        _expect(fits, f"settings and weights do not fit: {name} is not {tuple(shapes[name])}")


def _check_optimizer(optimizer: dict[str, Any], shapes: Counter[torch.Size]) -> None:
    """Check that there is a weight for each state; which one it is, only the Trainer knows."""
    for name in FUSED_STATES:
        states = [state[name] for state in optimizer["state"].values() if name in state]
        found = Counter(state.shape for state in states if state is not None)
        _expect(found <= shapes, f"the optimizer's {name} does not fit the weights")
    for group in optimizer["param_groups"]:
        names = [set(optimizer["state"].get(number, ())) for number in group["params"]]
        most = max(names, key=len, default=set())
        _expect(not any(set() < some < most for some in names), "the optimizer's state has gaps")


def _check_files(state: dict[str, Any]) -> None:
    """Check that the files a ModelCheckpoint's state names, and it deletes, are in its folder."""
    folder = Path(str(state.get("dirpath")))
    names = [state.get(f"{which}_model_path") or "" for which in ("best", "kth_best", "last")]
    for name in [*names, *(state.get("best_k_models") or ())]:
        path, address = Path(name), "://" in name or "::" in name
        inside = folder in path.parents and ".." not in path.parts and not address
        _expect(not name or inside, f"it names {name!r}, which is outside its folder")


def _is_plain_tensor(value: Tensor) -> bool:
    """Whether its numbers lie side by side in memory, in whatever order."""
    if value.layout is not torch.strided or value.device.type != "cpu":
        return False
    strides = value.stride()
    return value.permute(sorted(range(value.dim()), key=lambda d: -strides[d])).is_contiguous()


def _find(value: Any, keys: list[str], name: str = "") -> Iterator[tuple[str, Any]]:
    """The values that `keys` lead to, with their names; None where there is none."""
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
