"""The recipes configs/accurate.yaml and configs/ngrams.yaml, and the ladder in docs/accuracy.md."""

import asyncio
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, RUN, SHORT, Output, make_reviews, results_of, write_csv

import lit_imdb

TABLE = (ROOT / "docs/accuracy.md").read_text().split("FIGURES")[1].splitlines()
LADDER = [row.split("|")[2].strip(" `") for row in TABLE if row.startswith("| ")][2:]
assert LADDER


def served(classifier: lit_imdb.SentimentClassifier, texts: list[str]) -> list[dict[str, Any]]:
    """What POST /predict answers."""
    from lit_imdb.inference.app import make_app

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps({"texts": texts}).encode()}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(make_app(classifier, ["localhost"])(scope, receive, send))
    answers: list[dict[str, Any]] = json.loads(sent[1]["body"])["predictions"]
    return answers


@pytest.mark.parametrize("recipe", ["accurate", "ngrams"])
def test_predict_python_serve_and_export_answer_as_test_measured(
    recipe: str, run: Callable[..., Output], workspace: Path
) -> None:
    pytest.importorskip("starlette")
    onnxruntime = pytest.importorskip("onnxruntime")
    write_csv(workspace / "train.csv", make_reviews(50))
    texts, labels = zip(*make_reviews(20, seed=1), strict=True)
    write_csv(workspace / "test.csv", [*zip(texts, labels, strict=True)])
    config = ROOT / f"configs/{recipe}.yaml"
    assert run(*SHORT, "--config", config, "--data.source", workspace).status == 0
    assert run("predict", "test.csv", "--output", "answers.jsonl").status == 0
    assert run("export", "--output", "exported").status == 0

    classifier = lit_imdb.load("best")
    expected = np.array([answer.probability for answer in classifier.predict(texts)])
    assert expected.std() > 0.001
    rows = map(json.loads, Path("answers.jsonl").read_text().splitlines())
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=1e-5)
    answers = served(classifier, list(texts))
    assert [answer["probability"] for answer in answers] == pytest.approx(expected, abs=1e-5)
    session = onnxruntime.InferenceSession("exported/model.onnx")
    ids = classifier.encoder.encode(texts).astype("int64")
    (logits,) = session.run(["logits"], {"ids": ids})
    assert logits == pytest.approx(np.log(expected / (1 - expected)), abs=1e-4)
    of_label = np.where(labels, expected, 1 - expected)
    results = results_of(RUN)
    assert results["test_loss"] == pytest.approx(-np.log(of_label).mean(), abs=1e-5)
    assert results["test_acc"] == pytest.approx((of_label > 0.5).mean(), abs=1e-5)


@pytest.mark.parametrize("row", LADDER)
def test_every_row_of_the_ladder_runs_by_what_stands_in_it(
    row: str,
    run: Callable[..., Output],
    corpus: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (workspace / "configs").symlink_to(ROOT / "configs")
    if row.startswith("python -m "):
        pytest.importorskip("sklearn")
        monkeypatch.setattr(sys, "argv", ["", str(corpus)])
        runpy.run_module(row.removeprefix("python -m "), run_name="__main__")
        assert re.fullmatch(r"val 1?\d\d.\d\d%, test 1?\d\d.\d\d%\n", capsys.readouterr().out)
    else:
        flags = [] if row == "none" else row.split()
        limit = ("--trainer.limit_train_batches", "3")
        assert run("fit", "--data.source", corpus, *flags, *SHORT, *limit).status == 0
