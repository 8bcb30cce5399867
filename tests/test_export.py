"""The exported folder, used as a stranger would use it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Fails, Run, Trained, results_of
from networks import ThreeCells
from torch import Tensor

import lit_imdb
from lit_imdb.inference.card import model_card
from lit_imdb.inference.onnx import write_onnx
from lit_imdb.inference.origin import Origin
from lit_imdb.inference.torch_program import write_torch
from lit_imdb.model.ngrams import NGrams

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TEXTS = [
    "A lovely film, great!",
    "An awful<br />plot; it was\tDULL\n(and boring)...",
    "Nothing_known here: 100 % \u00dcBERRASCHEND, isn't it? #@$\u2028'quoted' \\ [x] ~",
    *("", "?!", "zebra zebra"),
    "the film was with plot " * 50,
]


def read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    session = onnxruntime.InferenceSession(path)
    return lambda ids: torch.from_numpy(session.run(["logits"], {"ids": ids.numpy()})[0])


def read_torch(path: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(path).module()


@pytest.mark.parametrize(("write", "read"), [(write_onnx, read_onnx), (write_torch, read_torch)])
@pytest.mark.parametrize("make", [lambda: ThreeCells(10_000, 6, 5), NGrams])
def test_exported_model_agrees_with_pytorch_at_any_size_and_length(
    make: Callable[[], Any], write: Any, read: Any, tmp_path: Path
) -> None:
    net = make().eval()
    for numbers in (*net.parameters(), *net.buffers()):
        torch.nn.init.normal_(numbers, std=0.3)
    write(net, tmp_path / "model.pt2")
    model = read(tmp_path / "model.pt2")
    for reviews, tokens in ((1, 1), (1, 8), (3, 5), (17, 80), (64, 200)):
        ids = torch.randint(1, 10_000, (reviews, tokens))
        ids[torch.arange(tokens) < torch.randint(0, tokens + 1, (reviews, 1))] = 0  # padding
        with torch.no_grad():
            torch.testing.assert_close(model(ids), net(ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("format", "tokenizer"), [("onnx", "words"), ("onnx", "basic_english"), ("torch", "words")]
)
def test_example_prints_the_classifiers_answers(
    format: str, tokenizer: str, best: Path, run: Run
) -> None:
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["tokenizer"] = tokenizer
    torch.save(checkpoint, "own.ckpt")
    done = run("export", "--ckpt_path", "own.ckpt", "--format", format, "--output", "out")
    assert done.out.startswith("out: model, vocabulary, card; try: python out/example.py"), done
    assert done.err.startswith("model: own.ckpt, validation accuracy ")
    code = Path("out/example.py").read_text()
    assert "lit_imdb" not in code
    assert ("import torch" in code) == (format == "torch")
    example = [sys.executable, "out/example.py", *TEXTS]
    shown = subprocess.run(example, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0, shown.stderr
    expected = lit_imdb.load("own.ckpt").predict(TEXTS)
    for line, one in zip(shown.stdout.splitlines(), expected, strict=True):
        probability = pytest.approx(one.probability, abs=1e-5)
        assert json.loads(line) == {"label": one.label, "probability": probability}
    assert [one.label for one in expected].count("") >= 3


def test_folder_holds_what_a_stranger_needs(best: Path, run: Run) -> None:
    folder = Path("out")
    run("export", "--ckpt_path", best, "--output", folder)
    files = {"MODEL_CARD.md", "example.py", "model.onnx", "preprocessing.json", "vocabulary.txt"}
    assert {file.name for file in folder.iterdir()} == files
    assert folder.stat().st_mode & 0o055 == 0o055
    assert (folder / "vocabulary.txt").read_text().startswith("<pad>\n<unk>\n")
    rules = json.loads((folder / "preprocessing.json").read_text())
    expected = {"tokenizer": "words", "max_length": 8, "pad_id": 0, "unk_id": 1}
    assert expected.items() <= rules.items()


def test_existing_folder_is_refused_and_left_alone(fails: Fails, best: Path) -> None:
    Path("mine").mkdir()
    assert "is there already" in fails("export", "--ckpt_path", best, "--output", "mine")
    assert list(Path("mine").iterdir()) == []


def test_card_has_the_metrics_of_the_run_and_only_the_name_of_own_reviews(
    best: Path, trained: Trained, run: Run
) -> None:
    run("export", "--ckpt_path", best, "--output", "out")
    card = Path("out/MODEL_CARD.md").read_text()
    results = results_of(trained.run)
    for known in (
        f"| test | {results['test_acc']:.2%} | {results['test_loss']:.4f} |",
        f"`best.ckpt`, validation accuracy {results['val_acc']:.1%},",
        "train 144, val 16, test 40",
        "It learned from the reviews in `corpus.csv`, labelled neg and pos:",
    ):
        assert known in card
    assert not re.search(r"IMDB|[Ff]ilm|English|\$", card)
    assert str(trained.folder) not in card, "the card goes to strangers"


def test_card_says_what_it_does_not_know_and_warns_of_a_guessing_model(trained: Trained) -> None:
    last = trained.run / "checkpoints/last.ckpt"
    classifier, alone = lit_imdb.load(last), Path("alone.ckpt")
    film = "It learned from English film reviews with a clear verdict"
    for origin, *said in (
        (Origin(alone), "accuracy unknown", "Unknown: the run's results.json was not beside"),
        (Origin(alone, 0.51), "(warning: close to guessing)"),
        (Origin(alone, source="hub"), "# IMDB sentiment", film),
        (Origin(alone, source="package"), "# IMDB sentiment", film),
        (Origin(last), "**not** of the exported `last.ckpt`"),
        (Origin(last, source="mine/hub"), "the reviews in `hub`, labelled"),
    ):
        classifier.origin = origin
        card = model_card(classifier, "model.pt2")
        assert all(words in card for words in said), card
        assert ("warning" in card) == (origin.accuracy == 0.51)
