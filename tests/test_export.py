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
from torch import nn

import lit_imdb
from lit_imdb.inference.card import model_card
from lit_imdb.inference.export import export
from lit_imdb.inference.onnx import write_onnx
from lit_imdb.inference.origin import Origin
from lit_imdb.inference.torch_program import write_torch
from lit_imdb.model.ngrams import NGrams

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TEXTS = [
    "A lovely film, great!",
    "An awful<br />plot; it was\tDULL\n(and boring)...",
    "Nothing_known here: 100 % \u00dcBERRASCHEND, isn't it? #@$\u2028'quoted' \\ [x] ~",
    *("", "?!", "zebra zebra"),
    "the film was with plot " * 50,
]
SHAPES = [(1, 1), (1, 8), (3, 5), (17, 80), (64, 200)]
FILES = {"MODEL_CARD.md", "example.py", "preprocessing.json", "vocabulary.txt"}
FORMATS = ["onnx", "torch"]
formats = pytest.mark.parametrize("format", FORMATS)


@pytest.fixture(scope="session")
def exported(best: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The trained run, exported in each format."""
    folders = {format: tmp_path_factory.mktemp("exported") / format for format in FORMATS}
    for format, folder in folders.items():
        export(str(best), format, str(folder))
    return folders


def model_of(folder: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    if (folder / "model.pt2").exists():
        program = torch.export.load(folder / "model.pt2").module()
        return lambda ids: program(ids).detach()
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda ids: torch.from_numpy(session.run(["logits"], {"ids": ids.numpy()})[0])


def assert_same_answers(folder: Path, checkpoint: Path) -> None:
    """What example.py prints is what the classifier answers."""
    example = [sys.executable, str(folder / "example.py"), *TEXTS]
    done = subprocess.run(example, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = lit_imdb.load(checkpoint).predict(TEXTS)
    for line, one in zip(done.stdout.splitlines(), expected, strict=True):
        probability = pytest.approx(one.probability, abs=1e-5)
        assert json.loads(line) == {"label": one.label, "probability": probability}
    assert [one.label for one in expected].count("") >= 3


def some_ngrams() -> NGrams:
    net = NGrams()
    for numbers in (net.ratio, net.weight, net.bias):
        torch.nn.init.normal_(numbers)
    net.ratio[0] = 0  # padding
    return net


@formats
@pytest.mark.parametrize(
    ("make", "vocab_size"), [(lambda: ThreeCells(20, 6, 5), 20), (some_ngrams, 10_000)]
)
def test_exported_model_agrees_with_pytorch_at_any_size_and_length(
    make: Callable[[], Any], vocab_size: int, format: str, tmp_path: Path
) -> None:
    net = make().eval()
    write, name = (write_onnx, "model.onnx") if format == "onnx" else (write_torch, "model.pt2")
    write(net, tmp_path / name)
    model = model_of(tmp_path)
    for shape in SHAPES:
        ids = torch.randint(1, vocab_size, shape)  # (B, T)
        lengths = torch.randint(0, shape[1] + 1, (shape[0], 1))  # (B, 1)
        ids[torch.arange(shape[1]) < shape[1] - lengths] = 0  # padding in front
        with torch.no_grad():
            expected = net(ids)
        logits = model(ids)
        assert logits.shape == (shape[0],)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@formats
def test_example_gives_the_classifiers_answers(
    exported: dict[str, Path], best: Path, format: str
) -> None:
    assert_same_answers(exported[format], best)
    example = (exported[format] / "example.py").read_text()
    assert "lit_imdb" not in example
    assert ("import torch" in example) == (format == "torch")


def test_example_follows_basic_english_too(exported: dict[str, Path], best: Path, run: Run) -> None:
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["datamodule_hyper_parameters"]["tokenizer"] = "basic_english"
    torch.save(checkpoint, "english.ckpt")
    done = run("export", "--ckpt_path", "english.ckpt", "--output", "out")
    assert done.out.startswith("out: model, vocabulary, card; try: python out/example.py"), done
    assert done.err.startswith("model: english.ckpt, validation accuracy ")
    rules = "preprocessing.json"
    assert Path("out", rules).read_text() != (exported["onnx"] / rules).read_text()
    assert_same_answers(Path("out").absolute(), Path("english.ckpt"))


def test_folder_holds_what_a_stranger_needs(exported: dict[str, Path]) -> None:
    folder = exported["onnx"]
    assert {file.name for file in folder.iterdir()} == FILES | {"model.onnx"}
    assert folder.stat().st_mode & 0o055 == 0o055
    assert (folder / "vocabulary.txt").read_text().split("\n")[:2] == ["<pad>", "<unk>"]
    rules = json.loads((folder / "preprocessing.json").read_text())
    assert (rules["tokenizer"], rules["max_length"]) == ("words", 8)
    assert (rules["pad_id"], rules["unk_id"]) == (0, 1)


def test_card_has_the_metrics_of_the_run_and_only_the_name_of_own_reviews(
    exported: dict[str, Path], trained: Trained
) -> None:
    card = (exported["onnx"] / "MODEL_CARD.md").read_text()
    results = results_of(trained.run)
    for known in (
        f"| test | {results['test_acc']:.2%} | {results['test_loss']:.4f} |",
        f"`best.ckpt`, validation accuracy {results['val_acc']:.1%},",
        "train 144, val 16, test 40",
        "It learned from the reviews in `corpus.csv`, labelled neg and pos:",
    ):
        assert known in card
    assert not re.search("IMDB|[Ff]ilm|English", card)
    assert str(trained.folder) not in card, "the card goes to strangers"
    assert "$" not in card


def test_card_says_what_it_does_not_know_and_warns_of_a_guessing_model(
    best: Path, trained: Trained
) -> None:
    def card(origin: Origin) -> str:
        return model_card(lit_imdb.SentimentClassifier(net, encoder, origin), "model.pt2")

    classifier, last = lit_imdb.load(best), trained.run / "checkpoints/last.ckpt"
    net, encoder = classifier.net, classifier.encoder
    alone = card(Origin(Path("alone.ckpt")))
    assert "validation accuracy unknown" in alone
    assert "Unknown: the run's results.json was not beside the checkpoint" in alone
    assert "warning" not in alone
    assert "close to guessing" in card(Origin(Path("a"), 0.51))
    assert "**not** of the exported `last.ckpt`" in card(Origin(last))
    assert "the reviews in `hub`, labelled" in card(Origin(last, source="mine/hub"))
    for source in ("hub", "package"):
        film = card(Origin(Path("alone.ckpt"), source=source))
        assert film.startswith("# IMDB sentiment")
        assert "It learned from English film reviews with a clear verdict" in film


def test_existing_folder_is_refused_and_left_alone(fails: Fails, best: Path) -> None:
    Path("mine").mkdir()
    assert "is there already" in fails("export", "--ckpt_path", best, "--output", "mine")
    assert list(Path("mine").iterdir()) == []


@pytest.mark.parametrize("cell", [nn.GRUCell(5, 5), nn.RNNCell(5, 5, nonlinearity="relu")], ids=str)
def test_other_cells_are_not_exported(
    cell: nn.Module, fails: Fails, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = lit_imdb.load(best)
    classifier.net.add_module("cell1", cell)
    monkeypatch.setattr("lit_imdb.inference.export.load", lambda file: classifier)
    assert f"cannot export {type(cell).__name__}" in fails("export", "--ckpt_path", best)
