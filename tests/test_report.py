"""The report of a run: TensorBoard, report.html, hostile texts, failures, and its numbers."""

import html
import random
import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import (
    RUN,
    Run,
    Trained,
    checkpoint_of,
    events_of,
    hparams_of,
    make_reviews,
    results_of,
    train_in,
    write_jsonl,
)
from matplotlib.figure import Figure
from networks import ThreeCells
from torch import nn

from lit_imdb.report import panels
from lit_imdb.report.answers import Answers, draw_by_length, draw_reliability, interval
from lit_imdb.report.figures import Table
from lit_imdb.report.gradients import measure
from lit_imdb.report.page import clean, html_of
from lit_imdb.report.panels import PANELS, Panel
from lit_imdb.report.words import nearest_words, plane

HOSTILE = [
    "one\ntwo\r\nthree\u2028four",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "&lt; &#124; https://example.org",
    "\U0001f600\U0001f468\u200d\U0001f469 \u05e9\u05dc\u05d5\u05dd \u202eabc \u0645\u0631\u062d",
    "\x00\x1b[31mred\x07 \ud800",
    "x" * 100_000,
    "word " * 20_000,
]
EVERY = list(chain(*PANELS.values()))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny run with several lines in its log, and some labels that cannot be learned.

    A callback monitors what the report measures.
    """
    reviews = [
        (text, label if number % 5 else 1 - label)
        for number, (text, label) in enumerate(make_reviews(100))
    ]
    stop = ("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/roc_auc")
    lines = ("--trainer.log_every_n_steps", "4")
    trained = train_in(tmp_path_factory.mktemp("reported"), reviews, *lines, *stop)
    assert "the report continues without" not in trained.output.err
    return trained


def tags_in(page: str) -> list[str]:
    return re.findall(r"<(\w+)", page)


def text_of(page: str) -> str:
    """What a page shows, as one line."""
    return " ".join(html.unescape(re.sub("<[^>]*>", "", page)).split())


def assert_has_every_panel_and_runs_and_loads_nothing(page: str) -> None:
    tags = tags_in(page)
    tables = 3  # nearest words, hand-written sentences, mistakes
    assert tags.count("img") == len(EVERY) - tables
    assert tags.count("table") == 1 + tables
    assert "script" not in tags
    assert not re.findall(r"<[^>]* on\w+=", page)
    assert set(re.findall('(?:src|href)="(.{5})', page)) == {"data:"}
    assert "default-src 'none'" in page


# --- what a run leaves ---


def test_log_files_get_a_line_at_once_one_when_data_are_prepared_and_one_for_each_epoch(
    reported: Trained,
) -> None:
    metrics = r"loss [\d.]+ acc [\d.]+%"
    expected = [
        "loading PyTorch and Lightning",
        r"preparing the reviews \(.*",
        "training on cpu, 9 batches per epoch",
        *(rf"epoch {number}/2  train {metrics}  val {metrics}(  \*best)?" for number in (1, 2)),
    ]
    lines = reported.output.err.splitlines()
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)
    assert lines[2 + results_of(reported.run)["best_epoch"]].endswith("*best")


def test_tensorboard_has_scalars_and_one_picture_a_panel(reported: Trained) -> None:
    events = events_of(reported.run)
    tags = events.Tags()["scalars"]
    expected = {
        *("train/loss", "val/loss", "train/acc", "val/acc", "val/kept_acc"),
        *("train/lr", "train/gradient_norm", "val/calibration_error", "val/roc_auc"),
        *("vanishing/spectral_norm_cell0", "vanishing/first_to_last_cell1"),
    }
    assert expected <= set(tags)
    for tag in expected:
        assert all(event.value == event.value for event in events.Scalars(tag)), tag  # no NaN
    for tag in ("train/loss", "train/gradient_norm"):
        assert [event.step for event in events.Scalars(tag)] == [3, 7, 11, 15]
    groups = sorted({tag.split("/")[0] for tag in tags})
    assert groups == ["train", "val", "vanishing", "verdicts"]  # TensorBoard's order
    assert set(events.Tags()["images"]) == {panel.tag for panel in EVERY if panel.tag}
    assert all(len(events.Images(tag)) == 1 for tag in events.Tags()["images"])
    assert len(events.Tensors("val/pr_curve")) == 2
    assert events.Tensors("custom_scalars__config__")


def test_hparams_begin_with_the_learning_rate_and_name_what_was_changed(reported: Trained) -> None:
    values = hparams_of(reported.run)
    assert [*values][:3] == ["lr", "changed", "precision"]
    assert {"seed", "max_epochs", "engine", "hidden_dim", "batch_size"} <= set(values)
    assert values["lr"].number_value == 0.02
    assert "hidden_dim 8" in values["changed"].string_value


def test_the_page_begins_with_the_result_and_what_differs_and_has_every_panel(
    reported: Trained,
) -> None:
    page = (reported.run / "report.html").read_text()
    results, text = results_of(reported.run), text_of(page)
    facts = [f"{results['test_acc']:.1%} of 40 test reviews", "model.lr 0.02"]
    facts += [results["date"][:16], results["machine"], f"torch {results['versions']['torch']}"]
    places = [text.index(fact) for fact in [*facts, *(panel.caption for panel in EVERY)]]
    assert places == sorted(places)
    assert_has_every_panel_and_runs_and_loads_nothing(page)


def test_the_report_changes_no_weight_and_can_be_left_out(reported: Trained, fit: Run) -> None:
    fit("--data.source", reported.corpus, "--trainer.log_every_n_steps", 4)
    assert not (RUN / "report.html").exists()
    shown, without = (checkpoint_of(run)["state_dict"] for run in (reported.run, RUN))
    torch.testing.assert_close(shown, without, rtol=0, atol=0)


# --- panels of one's own, and failures ---


def test_a_new_panel_is_a_function_and_an_entry(fit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = []

    def plot(run: panels.Run) -> Figure:
        right.append(run.test.right.float().mean().item())
        return Figure()

    own = [
        Panel("My plot", "Why?", plot, "own/plot"),
        Panel("My table", "How?", lambda run: Table([], [run.data.encoder.vocabulary[2:5]])),
        Panel("My empty panel", "", lambda run: None),
    ]
    monkeypatch.setitem(PANELS, "My own section", own)
    assert "the report continues without" not in fit("--report", "true").err
    shown = text_of((RUN / "report.html").read_text())
    assert all(text in shown for text in ("My own section", "Why?", "My table", "How?", "film"))
    assert "My empty panel" not in shown
    assert events_of(RUN).Images("own/plot")
    # what panels see is what the table says: the kept weights
    assert right == [pytest.approx(results_of(RUN)["test_acc"])]


def test_a_report_that_fails_everywhere_warns_once_for_each_part_and_does_not_end_the_run(
    fit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {
        "the gradient norm": "torch.nn.utils.get_total_norm",
        "the validation": "lit_imdb.report.callback.measure",
        "its page": "lit_imdb.report.callback.whole_file",
        "the panel Loss": "matplotlib.figure.Figure.savefig",
    }
    for function in parts.values():
        monkeypatch.setattr(function, Mock(side_effect=ValueError("no\nink")))
    done = fit("--report", "true", "--trainer.log_every_n_steps", 4)
    for part in parts:
        warning = f"the report continues without {part}: ValueError: no ink\n"
        assert done.err.count(warning) == 1, part
    assert results_of(RUN)["epochs"] == 2


# --- hostile texts ---


def test_hostile_reviews_sixteen_bits_and_a_small_vocabulary_leave_nothing_out(fit: Run) -> None:
    ugly = [(f"{n} {text} film {n}", n % 2) for n, text in enumerate(HOSTILE * 12)]
    # at the end of each, which is what the tables show, whichever reviews they choose
    mixed = [(f"{text} {HOSTILE[1]}", label) for text, label in make_reviews(100) + ugly]
    random.Random(0).shuffle(mixed)
    corpus = write_jsonl(Path("corpus.jsonl"), mixed)
    # basic_english keeps angle brackets
    unusual = ["--data.vocab_size=5000", "--precision=bf16-true", "--data.tokenizer=basic_english"]
    done = fit("--report", "true", "--data.source", corpus, *unusual)
    assert "the report continues without" not in done.err
    page = (RUN / "report.html").read_text()
    assert_has_every_panel_and_runs_and_loads_nothing(page)
    assert "onerror=alert" in text_of(page)  # shown as what it is


def test_a_hostile_cell_is_text_without_controls_or_markup(reported: Trained) -> None:
    for text in HOSTILE:
        assert clean(text).isprintable()
        table = Table(["a", text], [[text, [(text, 1.0)]]])
        tags = set(tags_in(html_of(results_of(reported.run), {"": [(EVERY[0], table)]})))
        assert not {"script", "img"} & tags
        assert {"th", "td", "bdi", "span"} < tags


# --- the numbers behind the panels ---


def test_area_calibration_and_mistakes_are_what_their_definitions_say() -> None:
    split: Any = SimpleNamespace(labels=torch.tensor([0, 0, 1, 1, 0, 1]))
    answers = Answers(split, torch.arange(6), torch.tensor([0.1, 0.2, 0.9, 0.8, 0.95, 0.45]))
    scalars = answers.scalars()
    assert scalars["val/roc_auc"] == pytest.approx(6 / 9)  # of 9 pairs 6 are in order
    # bins: 0.1 | 0.2 | 0.45 | 0.8 | 0.9 and 0.95, of which one is positive
    gaps = [0.1, 0.2, 0.55, 0.2, abs(0.925 - 0.5)]
    said, true = draw_reliability(answers).axes[0].lines[-1].get_data()
    assert abs(said - true).tolist() == pytest.approx(gaps)
    assert scalars["val/calibration_error"] == pytest.approx((sum(gaps) + gaps[-1]) / 6)
    assert answers.mistakes() == [4, 5]


def test_reviews_are_grouped_by_length_and_few_of_them_have_wide_intervals() -> None:
    ids = torch.tensor([[0, 0, 2], [0, 1, 2], [3, 4, 5]]).repeat(10, 1)[:-1]  # 10, 10, 9 of each
    split: Any = SimpleNamespace(ids=ids, labels=torch.ones(29))
    answers = Answers(split, torch.arange(29), (ids[:, 1] > 0).float())
    axes = draw_by_length(answers).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\n(10)", "2\n(10)"]
    assert [line.get_ydata().tolist() for line in axes.lines[1::2]] == [[0], [1]]
    assert interval(1.0, 1) == pytest.approx((0.2065, 1), abs=1e-4)
    low, high = interval(0.8, 10_000)
    assert low < 0.8 < high < low + 0.02


def test_hidden_gradients_agree_with_the_slope_of_the_loss() -> None:
    torch.manual_seed(0)
    ids, labels = torch.randint(1, 20, (2, 5)), torch.tensor([0, 1])
    net = ThreeCells(20, 4, 3).double()
    split: Any = SimpleNamespace(ids=ids, labels=labels)
    norms, scalars = measure(net, split)
    assert norms.shape == (3, 5)
    with torch.no_grad():  # the last state of the last cell: d loss / d h = (p - y) w
        slope = (torch.sigmoid(net(ids, [None] * 3)) - labels)[:, None] * net.head.weight
    assert norms[-1, -1].item() == pytest.approx(slope.norm(dim=1).mean().item())
    assert scalars["vanishing/spectral_norm_cell1"] == pytest.approx(1)  # orthogonal at first
    assert all(parameter.grad is None for parameter in net.parameters())


def test_neighbours_have_the_same_direction_and_positive_words_are_on_the_right() -> None:
    vectors = torch.tensor([[1.0, 1], [1, -1], [3, 2.9], [-1, -1]])
    net: Any = SimpleNamespace(embedding=nn.Embedding(6, 2))
    net.embedding.weight.data[2:] = vectors
    rows = nearest_words(net, ["<pad>", "<unk>", "great", "film", "superb", "bad"]).rows
    assert rows == [["great", "superb, film, bad"], ["bad", "film, superb, great"]]
    for each in (vectors, -vectors):
        x = plane(each, torch.tensor([0.9, 0.5, 0.8, 0.1]))[:, 0]
        assert x[2] > x[3]
