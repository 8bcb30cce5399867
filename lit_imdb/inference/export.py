"""`python train.py export`: a folder with all that a program needs to use a trained model."""

import json
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Literal

from lit_imdb.data.text import TextEncoder
from lit_imdb.errors import UserError
from lit_imdb.inference.card import model_card
from lit_imdb.inference.classifier import encoder_of, network_of
from lit_imdb.inference.onnx import write_onnx
from lit_imdb.inference.preprocessing import preprocessing_of
from lit_imdb.inference.torch_program import write_torch
from lit_imdb.model.network import SentimentRNN
from lit_imdb.model.recurrence import other_than_tanh
from lit_imdb.training.checkpoint import find_checkpoint, read_checkpoint


def export(
    ckpt_path: str = "best",
    format: Literal["onnx", "torch"] = "onnx",
    output: str | None = None,
) -> None:
    """Writes a trained model as a folder for programs that do not have this one.

    Args:
        ckpt_path: `best` or `last` of the newest run, or a checkpoint file.
        format: `onnx` for onnxruntime and others, `torch` for a `torch.export` program (.pt2).
        output: The new folder; imdb-sentiment-FORMAT unless said otherwise.

    Raises:
        UserError: No such checkpoint, the folder is there already, a package is missing, or the
            network has other cells than tanh `nn.RNNCell`s.
    """
    folder = Path(output or f"imdb-sentiment-{format}")
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} is there already: name another folder with --output DIR")
    path = find_checkpoint(ckpt_path)
    checkpoint = read_checkpoint(path)
    net, encoder = network_of(checkpoint).eval(), encoder_of(checkpoint)
    other = other_than_tanh(net.cells)
    if other is not None:
        raise UserError(
            f"cannot export {other}: expected tanh nn.RNNCells; "
            "use the network from Python, with lit_imdb.load(CHECKPOINT)"
        )
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
        try:
            _write(temporary, format, net, encoder)
            (temporary / "MODEL_CARD.md").write_text(
                model_card(path, checkpoint, format), encoding="utf-8"
            )
            temporary.chmod(0o755)  # mkdtemp's folders are for their owner alone
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error.strerror or error}): "
            "free some space or name another folder with --output DIR"
        ) from error
    print(f"{folder}: model, vocabulary, preprocessing, card; try python {folder}/example.py")


def _write(folder: Path, format: str, net: SentimentRNN, encoder: TextEncoder) -> None:
    if format == "onnx":
        write_onnx(net, folder / "model.onnx")
    else:
        write_torch(net, folder / "model.pt2")
    # A token never holds a line break: every tokenizer splits there. A broken character (half of a
    # surrogate pair) is no UTF-8, and is written out as an escape.
    vocabulary = "".join(f"{token}\n" for token in encoder.vocabulary)
    (folder / "vocabulary.txt").write_bytes(vocabulary.encode("utf-8", "backslashreplace"))
    preprocessing = json.dumps(preprocessing_of(encoder), indent=2)
    (folder / "preprocessing.json").write_text(f"{preprocessing}\n", encoding="utf-8")
    example = files("lit_imdb.inference").joinpath(f"example_{format}.txt").read_text("utf-8")
    (folder / "example.py").write_text(example, encoding="utf-8")
