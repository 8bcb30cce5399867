"""`python train.py export`: a folder with everything that another program needs to use a model."""

import json
import sys
from pathlib import Path
from typing import Literal

from lit_imdb.data.text import PAD_ID, TOKENIZERS, UNK_ID
from lit_imdb.errors import UserError, as_user_error
from lit_imdb.files import whole_folder
from lit_imdb.inference.card import TEMPLATES, model_card
from lit_imdb.inference.classifier import load
from lit_imdb.inference.onnx import write_onnx
from lit_imdb.inference.torch_program import write_torch
from lit_imdb.model.engines import other_than_tanh

RULE = (
    "Lower-case the text; apply each [pattern, replacement] of `replace` in order, as regular "
    "expressions; split at whitespace; keep the last `max_length` tokens; a token's id is its line "
    "in vocabulary.txt, counted from 0, and `unk_id` where it has none. Put `pad_id`, which is not "
    "read, in front of the shorter of several reviews. The probability of a positive review is "
    "1 / (1 + exp(-logit)). A text without a known token has no answer."
)
_FORMATS = {"onnx": (write_onnx, "model.onnx"), "torch": (write_torch, "model.pt2")}


def export(
    ckpt_path: str = "best",
    format: Literal["onnx", "torch"] = "onnx",
    output: str | None = None,
) -> None:
    """Write a trained model as a folder for programs that do not have this one.

    Args:
        ckpt_path: `best`, the newest there is, `last` of the newest run, or a file.
        format: `onnx` for onnxruntime and others, `torch` for a `torch.export` program (.pt2).
        output: The new folder; imdb-sentiment-FORMAT if not given.

    Raises:
        UserError: No such checkpoint, the folder is there already, or a package is missing.
    """
    folder = Path(output or f"imdb-sentiment-{format}")
    if folder.exists():
        raise UserError(f"{folder} is there already: name another folder with --output DIR")
    classifier = load(ckpt_path)
    net, encoder = classifier.net, classifier.encoder
    other = other_than_tanh(net.cells) if net.cells or hasattr(net, "onnx_graph") else net
    if other is not None:  # for those who change the network
        raise UserError(
            f"cannot export {type(other).__name__}: expected tanh nn.RNNCells; see lit_imdb.load"
        )
    write, model = _FORMATS[format]
    preprocessing = {
        "rule": RULE,
        "tokenizer": encoder.tokenizer,
        "replace": TOKENIZERS[encoder.tokenizer].rules,
        "max_length": encoder.max_length,
        "pad_id": PAD_ID,
        "unk_id": UNK_ID,
    }
    texts = {
        # a token holds no line break: every tokenizer splits there
        "vocabulary.txt": "".join(f"{token}\n" for token in encoder.vocabulary),
        "preprocessing.json": json.dumps(preprocessing, indent=2) + "\n",
        "example.py": TEMPLATES.get_template("example.txt").render(format=format),
        "MODEL_CARD.md": model_card(classifier, model),
    }
    advice = "free some space or name another folder with --output DIR"
    with as_user_error(f"cannot write {folder}", OSError, advice=advice):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder) as temporary:
            write(net, temporary / model)
            for name, text in texts.items():
                # half of a surrogate pair is no UTF-8 and becomes an escape
                (temporary / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    print(f'{folder}: model, vocabulary, card; try: python {folder}/example.py "I loved it"')
    print(classifier.origin, file=sys.stderr)
