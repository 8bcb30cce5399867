"""What a checkpoint file may hold, checked before it is unpickled and before anything uses it.

`weights_only=True` keeps a file from running code. It does not keep a small file from filling the
memory, from naming folders that Lightning then deletes, or from giving Adam a state shorter than
the weights, past whose end it would write.
"""

import math
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_imdb.data.text import PAD, UNK, TextEncoder
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import ENGINES

# A vocabulary of a million words fits; unpickled, it grows some sixty-fold.
_MAX_PICKLE = 16 * 2**20
_MAX_DEPTH, _MAX_VALUES = 20, 5_000_000
_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
_NAMES |= {f"torch {kind}Storage" for kind in _STORAGES}
_GROUPS = (
    *("state_dict", "hyper_parameters", "datamodule_hyper_parameters", "ImdbDataModule"),
    *("training", "loops"),
)
_SIZES = ("vocab_size", "embedding_dim", "hidden_dim")
_ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}
_SCALARS = {"step", "mu_product", "eta", "mu"}  # all else of torch's optimizers is as its weight


class HoldsCodeError(ValueError):
    """The file names something other than tensors and plain values."""


def check_archive(path: Path) -> None:
    """Looks at a checkpoint without unpickling it.

    Raises:
        HoldsCodeError: It names a function or class that no checkpoint needs.
        Exception: Whatever zipfile and pickletools make of a file that is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _expect(
            all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            and sum(entry.file_size for entry in entries) <= path.stat().st_size,
            "its parts are larger than the file",
        )
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        _expect(len(pickles) == 1 and pickles[0].file_size <= _MAX_PICKLE, "no usable data.pkl")
        operations = pickletools.genops(archive.read(pickles[0]))
        for operation, argument, _ in operations:
            naming = "GLOBAL" in operation.name or operation.name.startswith(("INST", "EXT"))
            if naming and argument not in _NAMES:
                raise HoldsCodeError(str(argument).replace(" ", "."))


def check_content(checkpoint: Any) -> None:
    """Looks at every value that this program or Lightning will rely on.

    Raises:
        ValueError: Something is missing, of the wrong type or out of range.
        UserError: The same, noticed where the settings are used.
    """
    _check_plain(checkpoint)
    _expect(isinstance(checkpoint, dict), "not a dictionary")
    for name in _GROUPS:
        _expect(isinstance(checkpoint.get(name), dict), f"no {name}")
    for name in ("epoch", "global_step"):
        value = checkpoint.get(name)
        _expect(type(value) is int and value >= 0, f"{name} {value!r} is not a count")
    version = str(checkpoint.get("pytorch-lightning_version"))
    _expect(version.split(".")[0].isdecimal(), f"Lightning's version {version!r}")
    for name in ("hyper_parameters", "datamodule_hyper_parameters"):
        for key, value in checkpoint[name].items():
            plain = value is None or isinstance(value, str | int | float)
            _expect(isinstance(key, str) and plain, f"{name}: {key} is not a plain value")
    parameters = _check_network(checkpoint["hyper_parameters"], checkpoint["state_dict"])
    vocabulary = checkpoint["ImdbDataModule"].get("vocabulary")
    _check_vocabulary(vocabulary, checkpoint["hyper_parameters"]["vocab_size"])
    settings = checkpoint["datamodule_hyper_parameters"]
    tokenizer, length = settings.get("tokenizer"), settings.get("max_length")
    _expect(type(length) is int, f"max_length {length!r} is not a number of tokens")
    TextEncoder([], tokenizer, length)
    _check_training(checkpoint["training"])
    for optimizer in checkpoint.get("optimizer_states", []):
        _check_optimizer(optimizer, parameters)
    for name, state in checkpoint.get("callbacks", {}).items():
        _expect(isinstance(name, str) and isinstance(state, dict), "callbacks are not by name")
        _check_paths(state)


def _check_plain(root: Any) -> None:
    """Walks the tree without recursion; shared parts count each time, as a copy would make them."""
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
            whole = value.layout is torch.strided and value.is_contiguous()
            _expect(whole and value.device.type == "cpu", "a tensor that is not a plain one")
        elif isinstance(value, int):
            _expect(abs(value) < 2**63, "a number beyond 64 bits")
        else:
            _expect(value is None or isinstance(value, str | float), f"a {type(value).__name__}")


def _check_network(settings: dict[str, Any], weights: dict[str, Any]) -> list[torch.Size]:
    """The shapes of the parameters that `settings` ask for, once `weights` have them too."""
    for name in _SIZES:
        size = settings.get(name)
        _expect(type(size) is int and 1 <= size < 2**24, f"{name} {size!r} is not a size")
    dropout, lr, engine = (settings.get(name) for name in ("dropout", "lr", "engine"))
    _expect(isinstance(dropout, int | float) and 0 <= dropout < 1, f"dropout {dropout!r}")
    _expect(isinstance(lr, int | float) and 0 < lr < math.inf, f"lr {lr!r}")
    _expect(engine in ("auto", *ENGINES), f"engine {engine!r}")
    with torch.device("meta"):  # shapes without memory
        net = SentimentRNN(*(settings[name] for name in _SIZES))
    wanted = {f"net.{name}": value.shape for name, value in net.state_dict().items()}
    network = {name for name in weights if not name.startswith("train_metrics.")}
    _expect(network == wanted.keys(), "its weights are those of another network")
    for name, shape in wanted.items():
        value = weights[name]
        _expect(
            isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape,
            f"settings and weights do not fit: {name} is not {tuple(shape)}",
        )
        _expect(bool(torch.isfinite(value).all()), f"{name} holds NaN or infinite values")
    return [value.shape for value in net.parameters()]


def _check_vocabulary(vocabulary: Any, size: int) -> None:
    _expect(
        not isinstance(vocabulary, list), "its vocabulary is a list, as an older version wrote it"
    )
    _expect(isinstance(vocabulary, str), "its vocabulary is not a text")
    words = vocabulary.count("\n") + 1
    _expect(words <= size, f"{words} words for {size} rows of the embedding")
    begins = vocabulary.split("\n", 2)[:2] == [PAD, UNK]
    _expect(begins, f"its vocabulary does not begin with {PAD}, {UNK}")


def _check_training(training: dict[str, Any]) -> None:
    seed = training.get("seed")
    _expect(type(seed) is int and 0 <= seed < 2**32, f"the seed {seed!r}")


def _check_optimizer(optimizer: Any, parameters: list[torch.Size]) -> None:
    """Each state as large as its weight: fused optimizers trust that, and would write past it."""
    state, groups = optimizer["state"], optimizer["param_groups"]
    order = [number for group in groups for number in group["params"]]
    _expect(order == list(range(len(parameters))), "the optimizer's weights are not in order")
    for number, values in state.items():
        _expect(number in order and isinstance(values, dict), "its optimizer's state")
        adam = bool(values.keys() & {"exp_avg", "exp_avg_sq"})
        _expect(not adam or values.keys() >= _ADAM_STATE, "a part of Adam's state is missing")
        for name, value in values.items():
            plain = value is None or isinstance(value, int | float)
            if plain and name not in _ADAM_STATE:
                continue
            shape = torch.Size() if name in _SCALARS else parameters[number]
            _expect(
                isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape,
                f"the optimizer's {name} of weight {number} is not {tuple(shape)}",
            )


def _check_paths(state: dict[str, Any]) -> None:
    """ModelCheckpoint deletes the files that its state names: they must lie in its own folder."""
    named = [state.get(f"{which}_model_path") or "" for which in ("best", "kth_best", "last")]
    for name in [*named, *(state.get("best_k_models") or {})]:
        inside = isinstance(name, str) and "://" not in name and Path(name).name != ".."
        _expect(
            not name or (inside and Path(name).parent == Path(str(state.get("dirpath")))),
            f"it names {name!r}, which is outside its folder",
        )


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
