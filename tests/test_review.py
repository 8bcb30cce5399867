"""The review of a run: what TensorBoard serves, report.html, hostile texts, failures."""

import html.parser
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Output, Trained, make_reviews, train_py, write_csv, write_jsonl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageColor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import binary_cross_entropy_with_logits

from lit_imdb.model.attribution import influences
from lit_imdb.model.network import SentimentRNN
from lit_imdb.report import drawings, tables, trainability, words
from lit_imdb.report.callback import Review
from lit_imdb.report.evaluation import Evaluation
from lit_imdb.report.figures import BLUE
from lit_imdb.report.guard import Guard
from lit_imdb.report.panels import Panels

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


class Server:
    """A real TensorBoard on 127.0.0.1."""

    def __init__(self, logs: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.data = f"http://127.0.0.1:{port}/data/"

    def get(self, path: str, body: dict[str, Any] | None = None, **query: str) -> bytes:
        address = f"{self.data}{path}?{urllib.parse.urlencode(query)}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            answered: bytes = answer.read()
        return answered

    def json(self, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        return json.loads(self.get(path, body, **query))

    def wait_for(self, seen: Callable[[], bool]) -> None:
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                if seen():
                    return
            except OSError:
                pass
            time.sleep(0.3)
        raise AssertionError("TensorBoard did not show the run")


LOGGING = ["--trainer.log_every_n_steps", "4"]


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny run with several lines in its log."""
    folder = tmp_path_factory.mktemp("reviewed")
    corpus = write_csv(folder / "corpus.csv", make_reviews(100))
    arguments = (*TINY, *LOGGING, "--data.source", corpus)
    output = train_py(*arguments, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))
    assert output.status == 0, output
    return Trained(folder, folder / "logs/imdb/version_0", output, corpus, folder / "cache")


@pytest.fixture(scope="module")
def server(reviewed: Trained) -> Iterator[Server]:
    """TensorBoard on three runs: the reviewed one and two copies."""
    logs = reviewed.folder / "compared"
    for number in range(3):
        shutil.copytree(reviewed.run, logs / f"version_{number}", dirs_exist_ok=True)
    server = Server(logs)
    try:
        server.wait_for(lambda: "version_2" in server.json("plugin/pr_curves/tags"))
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)


RUN = "version_0"


def test_what_every_picture_has_is_drawn_before_the_first_epoch(
    run: Callable[..., Output], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    draw = FigureCanvasAgg.draw
    start = Review.on_train_epoch_start
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda *a: seen.append("sheet") or draw(*a))
    monkeypatch.setattr(
        Review, "on_train_epoch_start", lambda *a: seen.append("epoch") or start(*a)
    )
    assert run("fit", *TINY, "--data.source", corpus, "--max_epochs", "2").status == 0
    # two of validations; in the end those of the words and of the run's curves
    assert seen == ["sheet", "sheet", "epoch", "epoch", "sheet", "sheet"]


def test_scalars_hold_training_validation_and_test(server: Server) -> None:
    tags = server.json("plugin/scalars/tags")[RUN]
    for tag in (
        *("train/loss", "val/loss", "train/acc", "val/acc", "test/acc"),
        *("train/lr", "train/reviews_per_second", "train/gradient_norm"),
        *("trainability/spectral_norm_cell0", "trainability/spectral_norm_cell1"),
        *("trainability/first_to_last_cell0", "trainability/saturation_cell1"),
        *("val/calibration_error", "test/roc_auc", "sentences/3_negation_pos"),
    ):
        assert tag in tags
        points = server.json("plugin/scalars/scalars", run=RUN, tag=tag)
        assert points
        assert all(value == value for _, _, value in points), tag  # none is NaN


def test_gradients_are_logged_with_the_loss_not_at_each_step(server: Server) -> None:
    steps = [
        [step for _, step, _ in server.json("plugin/scalars/scalars", run=RUN, tag=tag)]
        for tag in ("train/loss", "train/gradient_norm")
    ]
    assert steps[0] == steps[1]
    assert steps[0][1] - steps[0][0] == 4


def test_custom_scalars_name_only_curves_that_exist(server: Server) -> None:
    layout = server.json("plugin/custom_scalars/layout")
    tags = server.json("plugin/scalars/tags")[RUN]
    charts = [chart for category in layout["category"] for chart in category["chart"]]
    assert {"loss", "accuracy"} <= {chart["title"] for chart in charts}
    for chart in charts:
        for wanted in chart["multiline"]["tag"]:
            assert any(re.fullmatch(wanted, tag) for tag in tags), wanted


def test_images_of_every_epoch_and_of_the_test_are_served_whole(server: Server) -> None:
    for tag, count in (
        ("val/evaluation", 2),
        ("trainability/through_time", 2),
        ("test/evaluation", 1),
        ("words/space", 1),
        ("curves", 1),
    ):
        samples = server.json("plugin/images/images", run=RUN, tag=tag, sample="0")
        assert len(samples) == count, tag
        image = server.get(f"plugin/images/individualImage?{samples[-1]['query']}&ignored")
        assert image.startswith(b"\x89PNG")
        assert image.endswith(b"IEND\xaeB`\x82")


def test_text_tables_are_served_for_every_epoch(server: Server) -> None:
    for name, count in (
        ("sentences/probability_of_positive", 2),
        ("words/neighbours", 2),
        ("val/confident", 2),
        ("val/confident_influence", 2),
        ("test/confident", 1),
    ):
        steps = server.json("plugin/text/text", run=RUN, tag=f"{name}/text_summary")
        assert len(steps) == count, name
        assert all("<td>" in step["text"] for step in steps)


def test_pr_curves_and_histograms_are_served(server: Server) -> None:
    for tag in ("val/precision_recall", "test/precision_recall"):
        [curve, *_] = server.json("plugin/pr_curves/pr_curves", run=RUN, tag=tag)[RUN]
        assert len(curve["precision"]) > 10
    for tag in ("val/probability_neg", "test/probability_pos", "weights/cell1.weight_hh"):
        assert server.json("plugin/histograms/histograms", run=RUN, tag=tag)


def test_hparams_compare_several_runs(server: Server) -> None:
    experiment = server.json("plugin/hparams/experiment", {"experimentName": ""})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"lr", "hidden_dim", "embedding_dim", "dropout", "batch_size", "seed"} <= names
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert metrics == {"hp/val_acc", "hp/test_acc", "hp/val_loss"}
    statuses = ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN", "STATUS_FAILURE"]
    asked = {"experimentName": "", "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 10}
    groups = server.json("plugin/hparams/session_groups", asked)["sessionGroups"]
    assert len(groups) == 3
    assert all(len(group["metricValues"]) == 3 for group in groups)


def test_the_projector_serves_words_with_their_polarity(server: Server) -> None:
    assert RUN in server.json("plugin/projector/runs")
    tensor = server.get("plugin/projector/tensor", run=RUN, name="words")
    metadata = server.get("plugin/projector/metadata", run=RUN, name="words").decode().splitlines()
    assert metadata[0] == "word\tpolarity\tleaning"
    assert len(tensor) == 4 * 8 * (len(metadata) - 1)  # floats of 8 dimensions
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


def test_the_report_is_one_file_with_pictures_and_tables(reviewed: Trained) -> None:
    page = Page((reviewed.run / "report.html").read_text())
    assert page.tags.count("img") == 5
    assert page.tags.count("table") >= 4
    assert "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses)
    assert "2, the best was" in page.text  # the whole run, not up to the best epoch


def test_every_figure_is_in_the_run_folder_and_nothing_half_written(reviewed: Trained) -> None:
    names = {path.name.rsplit("_", 1)[0] for path in (reviewed.run / "figures").iterdir()}
    assert names == {
        *("val_evaluation", "test_evaluation", "trainability_through_time"),
        *("words_space", "curves"),
    }
    assert not list(reviewed.run.rglob("*.tmp"))


def test_pictures_have_few_colours_and_those_exactly(reviewed: Trained) -> None:
    for path in (reviewed.run / "figures").iterdir():
        found = Image.open(path).convert("RGB").getcolors(maxcolors=101)
        assert found is not None
        pixels = {colour: count for count, colour in found}
        assert max(pixels, key=lambda colour: pixels[colour]) == (255, 255, 255)
        assert pixels[(0, 0, 0)] > 100  # letters and axes
        assert pixels[ImageColor.getrgb(BLUE)] > 10


def test_the_review_changes_no_weight_and_can_be_left_out(
    reviewed: Trained, run: Callable[..., Output], tmp_path: Path
) -> None:
    done = run(*TINY, *LOGGING, "--data.source", reviewed.corpus, "--review", "false")
    assert done.status == 0, done
    without = tmp_path / "logs/imdb/version_0"
    assert not (without / "report.html").exists()
    assert not (without / "figures").exists()
    states = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (reviewed.run, without)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_hostile_reviews_neither_break_tables_nor_run(
    run: Callable[..., Output], tmp_path: Path
) -> None:
    reviews = make_reviews(100)
    ugly = [(text.replace("\ud800", ""), number % 2) for number, text in enumerate(HOSTILE * 12)]
    ugly = [(f"{number} {text} film {number}", label) for number, (text, label) in enumerate(ugly)]
    # at the end of each, which is what the tables show, whichever reviews they choose
    mixed = [(f"{text} {HOSTILE[2]}", label) for text, label in reviews + ugly]
    random.Random(0).shuffle(mixed)
    corpus = write_jsonl(tmp_path / "corpus.jsonl", mixed)
    assert run(*TINY, "--data.source", corpus).status == 0
    page = Page((tmp_path / "logs/imdb/version_0/report.html").read_text())
    assert "script" not in page.tags
    assert page.tags.count("img") == 5
    assert not page.handlers
    assert all(address.startswith("data:") for address in page.addresses)
    assert "alert(1)" in page.text  # shown as what it is


def test_a_resumed_run_keeps_its_layout_and_the_sentences_of_earlier_epochs(
    run: Callable[..., Output], corpus: Path, tmp_path: Path
) -> None:
    assert run(*TINY, *LOGGING, "--data.source", corpus).status == 0
    assert run("fit", "--ckpt_path", "last", "--max_epochs", "3").status == 0
    folder = tmp_path / "logs/imdb/version_0"
    page = Page((folder / "report.html").read_text())
    assert "ep 1ep 2ep 3" in page.text
    events = EventAccumulator(str(folder))
    events.Reload()
    assert len(events.Tensors("custom_scalars__config__")) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_tensorboard_shows_a_hostile_cell_as_its_text(text: str) -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    table = tables.markdown_table(["a", "b"], [[tables.markdown_cell(text), "end"]])
    shown = Page(markdown_to_safe_html(table))
    tags = [tag for tag in shown.tags if tag != "br"]
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert "".join(tables.clean(text).split()) in re.sub(r"[\s\u2068\u2069]", "", shown.text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_cell_is_one_short_line_without_controls(text: str) -> None:
    cleaned = tables.clean(text)
    assert len(cleaned) <= tables.SHOWN + 1
    assert cleaned.isprintable()
    word = tables.markdown_word(text)
    assert not set("<>|*`[]\n") & set(word)
    cleaned.encode()
    page = Page(tables.html_table(["a"], [[tables.html_cell(text)]]))
    assert set(page.tags) == {"div", "table", "thead", "tbody", "tr", "th", "td", "bdi"}


def test_a_failing_panel_warns_once_and_the_run_goes_on(
    run: Callable[..., Output], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> bytes:
        raise ValueError("no\nink")

    monkeypatch.setattr(drawings, "draw_evaluation", fail)
    done = run(*TINY, "--data.source", corpus)
    assert done.status == 0, done
    ours = [line for line in done.err.splitlines() if "the review" in line]
    assert len(ours) == 1, done.err
    assert ours[0].endswith("the review goes on without the evaluation figure: ValueError: no ink")
    folder = tmp_path / "logs/imdb/version_0"
    names = {path.name.rsplit("_", 1)[0] for path in (folder / "figures").iterdir()}
    assert names == {"trainability_through_time", "words_space", "curves"}
    assert (folder / "report.html").exists()


def test_a_full_disk_under_the_review_does_not_end_the_run(
    run: Callable[..., Output], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    for target in ("board.write", "words.write", "callback.write"):
        monkeypatch.setattr(f"lit_imdb.report.{target}", fail)
    done = run(*TINY, "--data.source", corpus)
    assert done.status == 0, done
    assert "the review goes on without" in done.err
    assert (tmp_path / "logs/imdb/version_0/results.json").exists()


def test_a_vocabulary_smaller_than_the_embedding_is_shown_whole(
    run: Callable[..., Output], corpus: Path, tmp_path: Path
) -> None:
    done = run(*TINY, "--data.source", corpus, "--data.vocab_size", "5000")
    assert done.status == 0, done
    assert "the review goes on without" not in done.err
    projector = tmp_path / "logs/imdb/version_0/projector"
    vectors = (projector / "words.tsv").read_text().splitlines()
    metadata = (projector / "words_metadata.tsv").read_text().splitlines()
    assert len(vectors) == len(metadata) - 1 < 5000


def test_sixteen_bits_leave_no_panel_out(run: Callable[..., Output], corpus: Path) -> None:
    done = run(*TINY, "--data.source", corpus, "--trainer.precision", "bf16-true")
    assert done.status == 0, done
    assert "the review goes on without" not in done.err


def test_every_hook_is_guarded(
    run: Callable[..., Output], corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("broken")

    for name in ("held_out", "validated", "word_space"):
        monkeypatch.setattr(Panels, name, fail)
    monkeypatch.setattr("lit_imdb.report.board.Board.scalar", fail)
    monkeypatch.setattr("lit_imdb.report.page.page", fail)
    done = run(*TINY, "--data.source", corpus)
    assert done.status == 0, done
    assert "the review goes on without" in done.err


def test_a_guard_lets_an_interrupt_through() -> None:
    with pytest.raises(KeyboardInterrupt), Guard()("anything"):
        raise KeyboardInterrupt


def test_another_logger_or_none_leaves_the_review_silent(
    run: Callable[..., Output], corpus: Path, tmp_path: Path
) -> None:
    assert run(*TINY, "--data.source", corpus, "--trainer.logger", "false").status == 0
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_report_opens_without_console_error_or_request(
    reviewed: Trained, tmp_path: Path
) -> None:
    log = tmp_path / "net.json"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    report = reviewed.run / "report.html"
    done = subprocess.run(
        ["chromium", *options, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}",
         "--dump-dom", f"file://{report}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "review of a run" in done.stdout
    assert "CONSOLE" not in done.stderr
    asked = re.findall(r'"url":"((?:http|ws)s?://[^"]*)"', log.read_text())
    of_the_browser = ("google", "gvt1.com")  # its updates
    assert not [url for url in asked if not any(name in url for name in of_the_browser)]


# --- the figures behind the panels ---


@pytest.fixture
def evaluation() -> Evaluation:
    """Four right answers and two wrong ones, one of them very sure."""
    ids = torch.tensor([[0, 0, 2], [0, 1, 2], [3, 4, 5], [1, 1, 1], [2, 3, 4], [5, 5, 5]])
    return Evaluation(
        probabilities=torch.tensor([0.1, 0.2, 0.9, 0.8, 0.95, 0.45]),
        labels=torch.tensor([0.0, 0, 1, 1, 0, 1]),
        rows=torch.arange(6),
        ids=ids,
    )


def test_roc_counts_pairs_in_the_right_order(evaluation: Evaluation) -> None:
    positive = evaluation.probabilities[evaluation.labels == 1]
    negative = evaluation.probabilities[evaluation.labels == 0]
    pairs = (positive[:, None] > negative).double().mean()
    assert evaluation.roc_auc() == pytest.approx(float(pairs))


def test_roc_of_equal_probabilities_is_the_diagonal(evaluation: Evaluation) -> None:
    same = Evaluation(torch.full((6,), 0.5), evaluation.labels, evaluation.rows, evaluation.ids)
    assert same.roc_auc() == pytest.approx(0.5)


def test_confusion_has_labels_in_rows(evaluation: Evaluation) -> None:
    assert evaluation.confusion().tolist() == [[2, 1], [1, 2]]


def test_calibration_error_is_the_mean_gap(evaluation: Evaluation) -> None:
    # bins: 0.1 | 0.2 | 0.45 | 0.8 | 0.9 and 0.95, of which one is positive
    gaps = 0.1 + 0.2 + 0.55 + 0.2 + 2 * abs(0.925 - 0.5)
    assert evaluation.calibration_error() == pytest.approx(gaps / 6)


def test_extremes_are_the_surest_answers(evaluation: Evaluation) -> None:
    assert evaluation.extremes(5, right=False) == [4, 5]
    assert evaluation.extremes(2, right=True) == [0, 2] or evaluation.extremes(2, True) == [2, 0]


def test_groups_share_out_every_review(evaluation: Evaluation) -> None:
    for groups in (evaluation.by_length(), evaluation.by_unknown()):
        assert sum(group.reviews for group in groups) == 6
        assert sum(group.reviews * group.accuracy for group in groups) == pytest.approx(4)


def test_hidden_gradients_agree_with_the_slope_of_the_loss() -> None:
    torch.manual_seed(0)
    net = SentimentRNN(20, 4, 3).double()
    ids, labels = torch.randint(0, 20, (2, 5)), torch.tensor([0.0, 1.0]).double()
    found = trainability.look(net, ids, labels)
    assert found.gradients.shape == found.saturated.shape == (2, 5)
    with torch.no_grad():  # the last state of the last cell: d loss / d h = (p - y) w
        logits = net(ids, (None, None))
        slope = (torch.sigmoid(logits) - labels)[:, None] * net.head.weight
    assert found.gradients[1, -1].item() == pytest.approx(slope.norm(dim=1).mean().item())
    assert binary_cross_entropy_with_logits(logits, labels) > 0
    assert all(parameter.grad is None for parameter in net.parameters())


def test_influences_add_up_for_a_network_that_is_nearly_linear() -> None:
    torch.manual_seed(0)
    net = SentimentRNN(20, 4, 3).double()
    with torch.no_grad():
        net.embedding.weight.mul_(0.01)  # tanh is straight near 0
    ids = torch.randint(0, 20, (3, 5))
    with torch.no_grad():
        logits = net(ids, (None, None)) - net.head.bias
    assert torch.allclose(influences(net, ids).sum(1), logits, rtol=1e-2)


def test_neighbours_are_the_words_in_the_same_direction() -> None:
    vocabulary = ["<pad>", "<unk>", "great", "film", "superb", "bad"]
    vectors = torch.tensor([[0.0, 0], [0, 0], [1, 1], [1, -1], [3, 2.9], [-1, -1]])
    found = words.neighbours(vectors, vocabulary, 1)
    assert found["great"] == ["superb"]
    assert found["bad"] == ["film"]
