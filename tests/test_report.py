"""The report of a run: TensorBoard, report.html, hostile texts, failures, and its numbers."""

import html.parser
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import (
    REPORTED,
    Output,
    Trained,
    make_reviews,
    results_of,
    train_py,
    write_csv,
    write_jsonl,
)
from matplotlib.figure import Figure
from networks import ThreeCells
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lit_imdb.report import panels, tables, trainability
from lit_imdb.report.evaluation import Evaluation, Group, Run
from lit_imdb.report.panels import Panel
from lit_imdb.report.tables import Table
from lit_imdb.report.words import WordSpace

HOSTILE = [
    "a | b || c |\n| --- | --- |",
    "one\ntwo\r\nthree\u2028four",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "[click](javascript:alert(3)) `code` **bold** &lt; &#124; \\| https://example.org",
    "\U0001f600\U0001f468\u200d\U0001f469 \u05e9\u05dc\u05d5\u05dd \u202eabc \u0645\u0631\u062d",
    "\x00\x1b[31mred\x07 \ud800",
    "x" * 100_000,
    "word " * 20_000,
]
LOGGING = ["--trainer.log_every_n_steps", "4"]
PICTURES = {
    *("curves/loss", "curves/accuracy", "answers/roc", "answers/reliability"),
    *("answers/by_length", "answers/by_unknown", "answers/confusion_test"),
    *("answers/probability_test", "words/space"),
    *("trainability/gradients", "trainability/saturated"),
}
TABLES = {
    *("words/neighbours", "sentences/probability_of_positive"),
    *("val/mistakes", "test/mistakes"),
}
Command = Callable[..., Output]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny run with several lines in its log, and some labels that cannot be learned."""
    folder = tmp_path_factory.mktemp("reported")
    reviews = [
        (text, label if number % 5 else 1 - label)
        for number, (text, label) in enumerate(make_reviews(100))
    ]
    corpus = write_csv(folder / "corpus.csv", reviews)
    arguments = (*REPORTED, *LOGGING, "--data.source", corpus)
    output = train_py(*arguments, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))
    assert output.status == 0, output
    assert "the report continues without" not in output.err
    return Trained(folder, folder / "logs/imdb/version_0", output, corpus, folder / "cache")


def events_of(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), {"images": 0, "tensors": 0, "histograms": 0})
    return found.Reload()


@pytest.fixture(scope="module")
def events(reported: Trained) -> EventAccumulator:
    return events_of(reported.run)


class Page(html.parser.HTMLParser):
    """The tags, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


# --- what a run leaves ---


def test_tensorboard_has_every_scalar_panel_and_curve(events: EventAccumulator) -> None:
    tags = events.Tags()["scalars"]
    for tag in (
        *("train/loss", "val/loss", "train/acc", "val/acc", "test/acc"),
        *("train/lr", "train/reviews_per_second", "train/gradient_norm"),
        *("trainability/spectral_norm_cell0", "trainability/spectral_norm_cell1"),
        *("trainability/first_to_last_cell0", "trainability/saturation_cell1"),
        *("val/calibration_error", "test/roc_auc", "hp/val_acc", "hp/test_acc", "hp/val_loss"),
    ):
        assert tag in tags
        assert all(event.value == event.value for event in events.Scalars(tag)), tag  # no NaN
    loss, norm = (
        [event.step for event in events.Scalars(tag)]
        for tag in ("train/loss", "train/gradient_norm")
    )
    assert loss == norm
    assert loss[1] - loss[0] == 4

    assert {panel.tag for panel in chain(*panels.PANELS.values())} == PICTURES | TABLES
    assert all(len(events.Tensors(f"{tag}/text_summary")) == 1 for tag in TABLES)
    for tag in PICTURES:
        [image] = events.Images(tag)
        assert (image.width, image.height) == (600, 450)
    for split, times in (("val", 2), ("test", 1)):
        assert len(events.Scalars(f"{split}/roc_auc")) == times
        assert len(events.Tensors(f"{split}/precision_recall")) == times
        assert len(events.Histograms(f"{split}/probability_neg")) == times
    for tag in ("weights/cell1.weight_hh", "weights/head.weight"):
        assert len(events.Histograms(tag)) == 2, tag
    assert events.Tensors("custom_scalars__config__")
    start = HParamsPluginData.FromString(
        events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    )
    names = set(start.session_start_info.hparams)
    assert {"lr", "hidden_dim", "embedding_dim", "dropout", "batch_size", "seed"} <= names


def test_the_projector_finds_words_with_their_polarity(reported: Trained) -> None:
    config = (reported.run / "projector_config.pbtxt").read_text()
    names = re.findall(r'(?:tensor|metadata)_path: "(.*)"', config)
    metadata, vectors = ((reported.run / name).read_text().splitlines() for name in sorted(names))
    assert metadata[0] == "word\tpolarity"
    assert len(vectors) == len(metadata) - 1
    assert all(len(vector.split("\t")) == 8 for vector in vectors)
    share_of = {line.split("\t")[0]: float(line.split("\t")[1]) for line in metadata[1:]}
    assert share_of["lovely"] > 0.6
    assert share_of["awful"] < 0.4


def test_the_run_folder_has_one_page_and_a_file_of_each_picture(reported: Trained) -> None:
    page = Page((reported.run / "report.html").read_text())
    assert page.tags.count("img") == len(PICTURES)
    assert page.tags.count("table") == 1 + len(TABLES)
    assert "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses)
    assert "2, the best was" in page.text  # the whole run, not up to the best epoch
    names = {path.stem for path in (reported.run / "plots").iterdir()}
    assert names == {tag.replace("/", "_") for tag in PICTURES}
    assert not list(reported.run.rglob("*.tmp"))


def test_the_report_changes_no_weight_and_can_be_left_out(
    reported: Trained, run: Command, tmp_path: Path
) -> None:
    done = run(*REPORTED, *LOGGING, "--data.source", reported.corpus, "--report", "false")
    assert done.status == 0, done
    without = tmp_path / "logs/imdb/version_0"
    assert not (without / "report.html").exists()
    assert not (without / "plots").exists()
    states = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (reported.run, without)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_report_opens_without_console_error_or_request(
    reported: Trained, tmp_path: Path
) -> None:
    log = tmp_path / "net.json"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    report = reported.run / "report.html"
    done = subprocess.run(
        ["chromium", *options, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}",
         "--dump-dom", f"file://{report}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "Report of a run" in done.stdout
    assert "CONSOLE" not in done.stderr
    asked = re.findall(r'"url":"((?:http|ws)s?://[^"]*)"', log.read_text())
    of_the_browser = ("google", "gvt1.com")  # its updates
    assert not [url for url in asked if not any(name in url for name in of_the_browser)]


# --- panels of one's own, and failures ---


def test_a_new_panel_is_a_function_and_an_entry_and_a_failing_one_warns_in_one_line(
    run: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Run] = []

    def plot(run: Run) -> Figure:
        seen.append(run)
        figure = Figure()
        figure.add_subplot().plot([epoch["seconds"] for epoch in run.history.epochs])
        return figure

    def table(run: Run) -> Table:
        return Table(["word"], [[word] for word in run.data.encoder.vocabulary[2:5]])

    def fail(run: Run) -> Figure:
        raise ValueError("no\nink")

    own = [
        Panel("own/fail", "", fail, ""),
        Panel("own/plot", "My plot", plot, "Why?"),
        Panel("own/table", "My table", table, "How?"),
    ]
    monkeypatch.setitem(panels.PANELS, "My own section", own)
    done = run(*REPORTED, "--data.source", corpus)
    assert done.status == 0, done
    [line] = [line for line in done.err.splitlines() if "the report" in line]
    assert line.endswith("the report continues without the panel own/fail: ValueError: no ink")

    folder = tmp_path / "logs/imdb/version_0"
    page = Page((folder / "report.html").read_text())
    assert all(text in page.text for text in ("My own section", "Why?", "My table", "How?", "film"))
    assert (folder / "plots/own_plot.png").exists()
    events = events_of(folder)
    assert events.Images("own/plot")
    assert events.Tensors("own/table/text_summary")
    # what panels see is what the table says: the kept weights
    results = results_of(folder)
    for split, evaluation in seen[0].evaluations.items():
        assert float(evaluation.right.float().mean()) == pytest.approx(results[f"{split}_acc"])


def test_a_report_that_fails_everywhere_does_not_end_the_run(
    run: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.nn.utils.get_total_norm", fail)  # at a step
    monkeypatch.setattr("lit_imdb.report.trainability.measure", fail)  # after a validation
    monkeypatch.setattr("lit_imdb.report.board.whole_file", fail)  # at the end
    done = run(*REPORTED, *LOGGING, "--data.source", corpus)
    assert done.status == 0, done
    parts = ("the speed and the gradient norm", "the validation", "pictures and tables")
    for part in (*parts, *(f"the panel {tag}" for tag in PICTURES)):
        assert done.err.count(f"the report continues without {part}:") == 1, part
    assert (tmp_path / "logs/imdb/version_0/results.json").exists()


# --- hostile texts ---


def test_hostile_reviews_sixteen_bits_and_a_small_vocabulary_leave_nothing_out(
    run: Command, tmp_path: Path
) -> None:
    reviews = make_reviews(100)
    ugly = [(text.replace("\ud800", ""), number % 2) for number, text in enumerate(HOSTILE * 12)]
    ugly = [(f"{number} {text} film {number}", label) for number, (text, label) in enumerate(ugly)]
    # at the end of each, which is what the tables show, whichever reviews they choose
    mixed = [(f"{text} {HOSTILE[2]}", label) for text, label in reviews + ugly]
    random.Random(0).shuffle(mixed)
    corpus = write_jsonl(tmp_path / "corpus.jsonl", mixed)
    unusual = ["--data.vocab_size", "5000", "--trainer.precision", "bf16-true"]
    done = run(*REPORTED, "--data.source", corpus, *unusual)
    assert done.status == 0
    assert "the report continues without" not in done.err
    page = Page((tmp_path / "logs/imdb/version_0/report.html").read_text())
    assert "script" not in page.tags
    assert page.tags.count("img") == len(PICTURES)
    assert not page.handlers
    assert all(address.startswith("data:") for address in page.addresses)
    assert "alert(1)" in page.text  # shown as what it is


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_cell_is_short_text_without_controls_or_markup(text: str) -> None:
    cleaned = tables.clean(text)
    assert len(cleaned) <= tables.SHOWN + 1
    assert cleaned.isprintable()
    cleaned.encode()
    page = Page(Table(["a", "b"], [[text, [(text, 1.0)]]]).html())
    assert set(page.tags) == {"table", "tr", "th", "td", "bdi", "span"}

    words = [(word, 0.1 * number) for number, word in enumerate(text[:300].split(" "))]
    shown = Page(markdown_to_safe_html(Table(["a", "b"], [[text, words]]).markdown()))
    tags = [tag for tag in shown.tags if tag not in ("br", "strong")]
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert "".join(cleaned.split()) in re.sub(r"[\s\u2068\u2069]", "", shown.text)


# --- the numbers behind the panels ---


@pytest.fixture
def evaluation() -> Evaluation:
    """Four right answers and two wrong ones, one of them very sure."""
    part: Any = SimpleNamespace(
        ids=torch.tensor([[0, 0, 2], [0, 1, 2], [3, 4, 5], [1, 1, 1], [2, 3, 4], [5, 5, 5]]),
        labels=torch.tensor([0, 0, 1, 1, 0, 1]),
    )
    return Evaluation(part, torch.arange(6), torch.tensor([0.1, 0.2, 0.9, 0.8, 0.95, 0.45]))


def test_area_calibration_and_mistakes_are_what_their_definitions_say(
    evaluation: Evaluation,
) -> None:
    positive = evaluation.probabilities[evaluation.labels == 1]
    negative = evaluation.probabilities[evaluation.labels == 0]
    pairs = (positive[:, None] > negative).double().mean()
    assert evaluation.roc_auc() == pytest.approx(float(pairs))

    # bins: 0.1 | 0.2 | 0.45 | 0.8 | 0.9 and 0.95, of which one is positive
    gaps = [0.1, 0.2, 0.55, 0.2, abs(0.925 - 0.5)]
    said, true = evaluation.reliability()
    assert (said - true).abs().tolist() == pytest.approx(gaps)
    assert evaluation.calibration_error() == pytest.approx((sum(gaps) + gaps[-1]) / 6)

    assert evaluation.mistakes() == [4, 5]


def test_groups_share_out_every_review_and_small_ones_have_wide_intervals(
    evaluation: Evaluation,
) -> None:
    for groups in (evaluation.by_length(), evaluation.by_unknown()):
        assert sum(group.reviews for group in groups) == 6
        right = sum(group.reviews * group.accuracy for group in groups if group.reviews)
        assert right == pytest.approx(4)
    assert [group.name for group in evaluation.by_length()] == ["1", "2", "3"]
    assert Group("1", 1, 1.0).interval == pytest.approx((0.2065, 1), abs=1e-4)
    low, high = Group("1", 10_000, 0.8).interval
    assert low < 0.8 < high < low + 0.02


def test_hidden_gradients_agree_with_the_slope_of_the_loss() -> None:
    torch.manual_seed(0)
    ids, labels = torch.randint(1, 20, (2, 5)), torch.tensor([0, 1])
    net = ThreeCells(20, 4, 3).double()
    found = trainability.measure(net, ids, labels)
    assert found.gradients.shape == found.saturated.shape == (3, 5)
    with torch.no_grad():  # the last state of the last cell: d loss / d h = (p - y) w
        slope = (torch.sigmoid(net(ids, [None] * 3)) - labels)[:, None] * net.head.weight
    assert found.gradients[-1, -1].item() == pytest.approx(slope.norm(dim=1).mean().item())
    assert found.spectral_norms[:2].tolist() == pytest.approx([1, 1])  # orthogonal at first
    assert all(parameter.grad is None for parameter in net.parameters())


def test_neighbours_are_the_words_in_the_same_direction() -> None:
    vectors = torch.tensor([[1.0, 1], [1, -1], [3, 2.9], [-1, -1]])
    space = WordSpace(["great", "film", "superb", "bad"], vectors, torch.full((4,), 0.5))
    assert space.neighbours(1).rows == [["great", "superb"], ["bad", "film"]]
