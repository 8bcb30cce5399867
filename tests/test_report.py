"""The report of a run: TensorBoard, report.html, hostile texts, failures, and its numbers."""

import html.parser
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import (
    TINY,
    Output,
    Trained,
    make_reviews,
    results_of,
    train_py,
    write_csv,
    write_jsonl,
)
from matplotlib.figure import Figure
from PIL import Image, ImageColor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from lit_imdb.model.network import SentimentRNN
from lit_imdb.report import panels, plots, tables, trainability
from lit_imdb.report.evaluation import Evaluation, Group
from lit_imdb.report.panels import Panel
from lit_imdb.report.run import Run
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
    *("answers/by_length", "answers/by_unknown", "words/space"),
    *(
        f"answers/{name}_{split}"
        for name in ("confusion", "probability")
        for split in ("val", "test")
    ),
    *("trainability/gradients", "trainability/saturated"),
}
TABLES = {
    *("words/neighbours", "sentences/probability_of_positive"),
    *(f"{split}/{name}" for split in ("val", "test") for name in ("mistakes", "confident")),
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
    arguments = (*TINY, *LOGGING, "--data.source", corpus)
    output = train_py(*arguments, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))
    assert output.status == 0, output
    assert "the report continues without" not in output.err
    return Trained(folder, folder / "logs/imdb/version_0", output, corpus, folder / "cache")


@pytest.fixture(scope="module")
def events(reported: Trained) -> EventAccumulator:
    found = EventAccumulator(
        str(reported.run), size_guidance={"images": 0, "tensors": 0, "histograms": 0}
    )
    found.Reload()
    return found


# --- TensorBoard ---


def test_scalars_hold_training_validation_and_test(events: EventAccumulator) -> None:
    for tag in (
        *("train/loss", "val/loss", "train/acc", "val/acc", "test/acc"),
        *("train/lr", "train/reviews_per_second", "train/gradient_norm"),
        *("trainability/spectral_norm_cell0", "trainability/spectral_norm_cell1"),
        *("trainability/first_to_last_cell0", "trainability/saturation_cell1"),
        *("val/calibration_error", "test/roc_auc", "sentences/3_negation_pos"),
    ):
        values = [event.value for event in events.Scalars(tag)]
        assert values
        assert all(value == value for value in values), tag  # none is NaN


def test_gradients_are_logged_with_the_loss_not_at_each_step(events: EventAccumulator) -> None:
    steps = [
        [event.step for event in events.Scalars(tag)]
        for tag in ("train/loss", "train/gradient_norm")
    ]
    assert steps[0] == steps[1]
    assert steps[0][1] - steps[0][0] == 4


def test_every_panel_is_shown_once_and_numbers_after_each_validation(
    events: EventAccumulator,
) -> None:
    assert {panel.tag for panel in chain(*panels.PANELS.values())} == PICTURES | TABLES
    assert all(len(events.Tensors(f"{tag}/text_summary")) == 1 for tag in TABLES)
    for tag in PICTURES:
        [image] = events.Images(tag)
        assert (image.width, image.height) == (600, 450)
    assert len(events.Scalars("val/roc_auc")) == len(events.Tensors("val/precision_recall")) == 2
    assert len(events.Scalars("test/roc_auc")) == len(events.Tensors("test/precision_recall")) == 1
    for tag in ("val/probability_neg", "weights/cell1.weight_hh", "weights/head.weight"):
        assert len(events.Histograms(tag)) == 2, tag


def test_custom_scalars_name_only_curves_that_exist(events: EventAccumulator) -> None:
    [event] = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    assert {"loss", "accuracy"} <= {chart.title for chart in charts}
    tags = events.Tags()["scalars"]
    for wanted in chain(*(chart.multiline.tag for chart in charts)):
        assert any(re.fullmatch(wanted, tag) for tag in tags), wanted


def test_hparams_hold_settings_and_results(events: EventAccumulator) -> None:
    content = events.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    names = set(start.session_start_info.hparams)
    assert {"lr", "hidden_dim", "embedding_dim", "dropout", "batch_size", "seed"} <= names
    assert {"hp/val_acc", "hp/test_acc", "hp/val_loss"} <= set(events.Tags()["scalars"])


def test_the_projector_finds_words_with_their_polarity(reported: Trained) -> None:
    config = (reported.run / "projector_config.pbtxt").read_text()
    names = re.findall(r'(?:tensor|metadata)_path: "(.*)"', config)
    metadata, vectors = ((reported.run / name).read_text().splitlines() for name in sorted(names))
    assert metadata[0] == "word\tpolarity\tleaning"
    assert len(vectors) == len(metadata) - 1
    assert all(len(vector.split("\t")) == 8 for vector in vectors)
    share_of = {line.split("\t")[0]: float(line.split("\t")[1]) for line in metadata[1:]}
    assert share_of["lovely"] > 0.6
    assert share_of["awful"] < 0.4


# --- the run folder ---


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


def test_the_report_is_one_file_with_pictures_and_tables(reported: Trained) -> None:
    page = Page((reported.run / "report.html").read_text())
    assert page.tags.count("img") == len(PICTURES)
    assert page.tags.count("table") == 1 + len(TABLES)
    assert "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses)
    assert "2, the best was" in page.text  # the whole run, not up to the best epoch
    assert "ep 1ep 2text" in page.text


def test_every_picture_is_a_file_and_nothing_is_half_written(reported: Trained) -> None:
    names = {path.stem for path in (reported.run / "plots").iterdir()}
    assert names == {tag.replace("/", "_") for tag in PICTURES}
    assert not list(reported.run.rglob("*.tmp"))


def test_a_split_has_one_colour_in_all_pictures(reported: Trained) -> None:
    assert len({style["color"] for style in (*plots.SPLITS.values(), *plots.CLASSES.values())}) == 5
    of_curves = ("curves_loss", "curves_accuracy")
    of_answers = ("answers_roc", "answers_reliability", "answers_by_length", "answers_by_unknown")
    for split, names in (
        ("train", of_curves),
        ("val", (*of_curves, *of_answers)),
        ("test", of_answers),
    ):
        colour = ImageColor.getrgb(plots.SPLITS[split]["color"])
        for name in names:
            picture = Image.open(reported.run / f"plots/{name}.png").convert("RGB")
            counts = {pixel: count for count, pixel in picture.getcolors(2**24) or []}
            assert counts.get(colour, 0) > 20, (split, name)


def test_the_report_changes_no_weight_and_can_be_left_out(
    reported: Trained, run: Command, tmp_path: Path
) -> None:
    done = run(*TINY, *LOGGING, "--data.source", reported.corpus, "--report", "false")
    assert done.status == 0, done
    without = tmp_path / "logs/imdb/version_0"
    assert not (without / "report.html").exists()
    assert not (without / "plots").exists()
    states = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (reported.run, without)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_resumed_run_shows_the_sentences_and_curves_of_earlier_epochs(
    run: Command, corpus: Path, tmp_path: Path
) -> None:
    assert run(*TINY, *LOGGING, "--data.source", corpus).status == 0
    assert run("fit", "--ckpt_path", "last", "--max_epochs", "3").status == 0
    folder = tmp_path / "logs/imdb/version_0"
    assert "ep 1ep 2ep 3text" in Page((folder / "report.html").read_text()).text
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tensors("custom_scalars__config__")
    assert len(events.Scalars("val/roc_auc")) == 3


def test_a_new_panel_is_a_function_and_an_entry(
    run: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Run] = []

    def plot(run: Run) -> Figure:
        seen.append(run)
        figure = Figure()
        figure.add_subplot().plot([epoch["seconds"] for epoch in run.epochs])
        return figure

    def table(run: Run) -> Table:
        return Table(["word"], [[word] for word in run.data.encoder.vocabulary[2:5]])

    own = [
        Panel("own/plot", "My plot", plot, "Why?"),
        Panel("own/table", "My table", table, "How?"),
    ]
    monkeypatch.setitem(panels.PANELS, "My own section", own)
    monkeypatch.setitem(panels.NUMBERS, "my own", lambda run: {"own/number": 7.0})
    assert run(*TINY, "--data.source", corpus).status == 0

    folder = tmp_path / "logs/imdb/version_0"
    page = Page((folder / "report.html").read_text())
    assert all(text in page.text for text in ("My own section", "Why?", "My table", "How?", "film"))
    assert (folder / "plots/own_plot.png").exists()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Images("own/plot")
    assert events.Tensors("own/table/text_summary")
    assert [event.value for event in events.Scalars("own/number")] == [7, 7]
    # what panels see is what the table says: the kept weights
    results = results_of(folder)
    for split, evaluation in seen[0].evaluations.items():
        assert float(evaluation.right.float().mean()) == pytest.approx(results[f"{split}_acc"])
    assert seen[0].kept == results["best_epoch"]


# --- hostile texts ---


def test_hostile_reviews_neither_break_tables_nor_run(run: Command, tmp_path: Path) -> None:
    reviews = make_reviews(100)
    ugly = [(text.replace("\ud800", ""), number % 2) for number, text in enumerate(HOSTILE * 12)]
    ugly = [(f"{number} {text} film {number}", label) for number, (text, label) in enumerate(ugly)]
    # at the end of each, which is what the tables show, whichever reviews they choose
    mixed = [(f"{text} {HOSTILE[2]}", label) for text, label in reviews + ugly]
    random.Random(0).shuffle(mixed)
    corpus = write_jsonl(tmp_path / "corpus.jsonl", mixed)
    done = run(*TINY, "--data.source", corpus)
    assert done.status == 0
    assert "the report continues without" not in done.err
    page = Page((tmp_path / "logs/imdb/version_0/report.html").read_text())
    assert "script" not in page.tags
    assert page.tags.count("img") == len(PICTURES)
    assert not page.handlers
    assert all(address.startswith("data:") for address in page.addresses)
    assert "alert(1)" in page.text  # shown as what it is


@pytest.mark.parametrize("text", HOSTILE)
def test_tensorboard_shows_a_hostile_cell_as_its_text(text: str) -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    words = [(word, 0.1 * number) for number, word in enumerate(text[:300].split(" "))]
    shown = Page(markdown_to_safe_html(Table(["a", "b"], [[text, words]]).markdown()))
    tags = [tag for tag in shown.tags if tag not in ("br", "strong")]
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert "".join(tables.clean(text).split()) in re.sub(r"[\s\u2068\u2069]", "", shown.text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_cell_is_one_short_line_without_controls(text: str) -> None:
    cleaned = tables.clean(text)
    assert len(cleaned) <= tables.SHOWN + 1
    assert cleaned.isprintable()
    cleaned.encode()
    page = Page(Table(["a", "b"], [[text, [(text, 1.0)]]]).html())
    assert set(page.tags) == {"div", "table", "tr", "th", "td", "bdi", "span"}


# --- failures ---


def test_a_failing_panel_warns_once_and_the_run_continues(
    run: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Run) -> Figure:
        raise ValueError("no\nink")

    section = panels.PANELS["Words"]
    monkeypatch.setitem(panels.PANELS, "Words", [Panel("words/fail", "", fail, ""), *section])
    done = run(*TINY, "--data.source", corpus)
    assert done.status == 0, done
    [line] = [line for line in done.err.splitlines() if "the report" in line]
    assert line.endswith("the report continues without the panel words/fail: ValueError: no ink")
    folder = tmp_path / "logs/imdb/version_0"
    assert len(list((folder / "plots").iterdir())) == len(PICTURES)
    assert (folder / "report.html").exists()


def test_a_full_disk_under_the_report_does_not_end_the_run(
    run: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lit_imdb.report.board.whole_file", fail)
    done = run(*TINY, "--data.source", corpus)
    assert done.status == 0, done
    assert "the report continues without" in done.err
    assert (tmp_path / "logs/imdb/version_0/results.json").exists()


def test_every_hook_is_guarded(run: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(SummaryWriter, "add_custom_scalars", fail)  # when a fit begins
    monkeypatch.setattr("torch.nn.utils.get_total_norm", fail)  # at a step
    monkeypatch.setattr(SummaryWriter, "add_pr_curve", fail)  # after a validation and at the end
    done = run(*TINY, *LOGGING, "--data.source", corpus)
    assert done.status == 0, done
    assert done.err.count("the report continues without") == 4


def test_a_panel_lets_an_interrupt_through(
    run: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(run: Run) -> Figure:
        raise KeyboardInterrupt

    monkeypatch.setitem(panels.PANELS, "Words", [Panel("words/interrupt", "", interrupt, "")])
    done = run(*TINY, "--data.source", corpus)
    assert done.status != 0
    assert "the report continues without" not in done.err


def test_a_vocabulary_smaller_than_the_embedding_and_sixteen_bits_leave_nothing_out(
    run: Command, corpus: Path, tmp_path: Path
) -> None:
    unusual = ["--data.vocab_size", "5000", "--trainer.precision", "bf16-true"]
    done = run(*TINY, "--data.source", corpus, *unusual)
    assert done.status == 0, done
    assert "the report continues without" not in done.err
    [vectors] = (tmp_path / "logs/imdb/version_0").rglob("tensors.tsv")
    metadata = vectors.with_name("metadata.tsv").read_text().splitlines()
    assert len(vectors.read_text().splitlines()) == len(metadata) - 1 < 5000


def test_without_a_logger_the_report_is_silent(run: Command, corpus: Path, tmp_path: Path) -> None:
    done = run(*TINY, "--data.source", corpus, "--trainer.logger", "false")
    assert done.status == 0, done
    assert "the report" not in done.err
    assert not list(tmp_path.rglob("report.html"))


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


# --- the numbers behind the panels ---


@pytest.fixture
def evaluation() -> Evaluation:
    """Four right answers and two wrong ones, one of them very sure."""
    ids = torch.tensor([[0, 0, 2], [0, 1, 2], [3, 4, 5], [1, 1, 1], [2, 3, 4], [5, 5, 5]])
    return Evaluation(
        probabilities=torch.tensor([0.1, 0.2, 0.9, 0.8, 0.95, 0.45]),
        labels=torch.tensor([0, 0, 1, 1, 0, 1]),
        ids=ids,
        rows=torch.arange(6),
    )


def test_area_under_the_roc_curve_is_the_share_of_pairs_in_the_right_order(
    evaluation: Evaluation,
) -> None:
    positive = evaluation.probabilities[evaluation.labels == 1]
    negative = evaluation.probabilities[evaluation.labels == 0]
    pairs = (positive[:, None] > negative).double().mean()
    assert evaluation.roc_auc() == pytest.approx(float(pairs))


def test_reviews_of_one_class_have_no_roc_curve_and_no_warning(
    evaluation: Evaluation, recwarn: pytest.WarningsRecorder
) -> None:
    few = Evaluation(*(each[:2] for each in vars(evaluation).values()))
    assert set(few.numbers("val")) == {"val/calibration_error"}
    plots.roc(Run(None, None, {"val": few, "test": evaluation}))  # type: ignore[arg-type]
    assert not recwarn


def test_calibration_error_is_the_mean_gap(evaluation: Evaluation) -> None:
    # bins: 0.1 | 0.2 | 0.45 | 0.8 | 0.9 and 0.95, of which one is positive
    gaps = [0.1, 0.2, 0.55, 0.2, abs(0.925 - 0.5)]
    said, true = evaluation.reliability()
    assert (said - true).abs().tolist() == pytest.approx(gaps)
    assert evaluation.calibration_error() == pytest.approx((sum(gaps) + gaps[-1]) / 6)


def test_extremes_are_the_surest_answers(evaluation: Evaluation) -> None:
    assert evaluation.extremes(5, right=False) == [4, 5]
    assert set(evaluation.extremes(2, right=True)) == {0, 2}


def test_groups_share_out_every_review(evaluation: Evaluation) -> None:
    for groups in (evaluation.by_length(), evaluation.by_unknown()):
        assert sum(group.reviews for group in groups) == 6
        assert sum(group.reviews * group.accuracy for group in groups) == pytest.approx(4)
    assert [group.name for group in evaluation.by_length()] == ["1", "2", "3"]


def test_the_interval_of_one_review_is_wide_and_that_of_many_narrow() -> None:
    assert Group(1, "1", 1, 1.0).interval == pytest.approx((0.2065, 1), abs=1e-4)
    low, high = Group(1, "1", 10_000, 0.8).interval
    assert low < 0.8 < high < low + 0.02


def test_hidden_gradients_agree_with_the_slope_of_the_loss() -> None:
    class Split:
        ids = torch.randint(1, 20, (2, 5))
        labels = torch.tensor([0, 1])

        def __len__(self) -> int:
            return 2

    torch.manual_seed(0)
    net = SentimentRNN(20, 4, 3).double()
    found = trainability.measure(net, Split())  # type: ignore[arg-type]
    assert found.gradients.shape == found.saturated.shape == (2, 5)
    with torch.no_grad():  # the last state of the last cell: d loss / d h = (p - y) w
        logits = net(Split.ids, (None, None))
        slope = (torch.sigmoid(logits) - Split.labels)[:, None] * net.head.weight
    assert found.gradients[1, -1].item() == pytest.approx(slope.norm(dim=1).mean().item())
    assert found.spectral_norms.tolist() == pytest.approx([1, 1])  # orthogonal at first
    assert all(parameter.grad is None for parameter in net.parameters())


def test_neighbours_are_the_words_in_the_same_direction() -> None:
    vectors = torch.tensor([[1.0, 1], [1, -1], [3, 2.9], [-1, -1]])
    space = WordSpace(["great", "film", "superb", "bad"], vectors, torch.full((4,), 0.5))
    assert space.neighbours(1).rows == [["great", "superb"], ["bad", "film"]]
