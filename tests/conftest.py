"""Small corpora with learnable words, and ways to run the program on them; all offline."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Two tests run at a time, each with one thread; torch reads it on import.
os.environ["OMP_NUM_THREADS"] = "1"
# datasets and huggingface_hub read these once, on import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="lit-imdb-no-hub-")
os.environ.pop("LIT_IMDB_DEBUG", None)

ROOT = Path(__file__).parents[1]
collect_ignore = ["fixtures"]  # what made the files there needs TensorFlow

# A model and data of a size that trains in a blink; drawing the report takes longer than that.
SHORT = [
    *("--accelerator", "cpu", "--max_epochs", "2", "--trainer.enable_progress_bar", "false"),
    *("--report", "false"),
    *("--data.batch_size", "16", "--data.max_length", "8", "--data.vocab_size", "60"),
]
TINY = [*SHORT, "--model.embedding_dim", "8", "--model.hidden_dim", "8", "--model.lr", "0.02"]
REPORTED = [*TINY, "--report", "true"]
RUN = Path("logs/imdb/version_0")  # of the first run in a folder

Review = tuple[str, int]


class Output(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Output]
Fails = Callable[..., str]


def make_reviews(count: int, seed: int = 0) -> list[Review]:
    """`count` different reviews of each label, negative ones first, as IMDB has them."""
    words = {0: ("awful", "boring", "dull"), 1: ("lovely", "great", "moving")}
    common = ("the", "film", "was", "with", "plot")
    return [
        (
            f"Film {seed}x{label}x{number} {' '.join(common[number % 3 :])}, "
            f"{words[label][number % 3]} {words[label][number % 2]}!",
            label,
        )
        for label in (0, 1)
        for number in range(count)
    ]


def write_csv(path: Path, reviews: list[Review]) -> Path:
    lines = ["text,label", *(f'"{text}",{label}' for text, label in reviews)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_jsonl(path: Path, reviews: list[Review]) -> Path:
    lines = [json.dumps({"text": text, "label": label}) for text, label in reviews]
    path.write_text("\n".join(lines))
    return path


def write_parquet(path: Path, reviews: list[Review]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, labels = zip(*reviews, strict=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), path)
    return path


def write_acl_imdb(path: Path, reviews: list[Review], part: str = "train") -> Path:
    for number, (text, label) in enumerate(reviews):
        folder = path / part / ("neg", "pos")[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}_{1 + 8 * label}.txt").write_text(text)
    return path


WRITERS: dict[str, Callable[[Path, list[Review]], Path]] = {
    "corpus": write_acl_imdb,
    "corpus.csv": write_csv,
    "corpus.jsonl": write_jsonl,
    "corpus.parquet": write_parquet,
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in its own empty folder, with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")  # tables in one piece
    return tmp_path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A CSV file of 100 reviews of each label."""
    return write_csv(tmp_path / "corpus.csv", make_reviews(100))


class Stream(io.TextIOWrapper):
    """What is printed, in memory."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", write_through=True)


def command(*args: object) -> Output:
    """Runs the command line in this process."""
    from lit_imdb.main import main

    status = 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = Stream(), Stream()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Output(status, *(stream.buffer.getvalue().decode() for stream in (out, err)))


@pytest.fixture
def run() -> Run:
    return command


@pytest.fixture
def works() -> Run:
    """Runs what must succeed."""

    def run_and_succeed(*args: object) -> Output:
        done = command(*args)
        assert done.status == 0, done
        return done

    return run_and_succeed


@pytest.fixture
def fit(works: Run, corpus: Path) -> Run:
    """Trains the tiny model on `corpus`, which must succeed."""
    return partial(works, *TINY, "--data.source", corpus)


@pytest.fixture
def fails() -> Fails:
    """Runs what must end in one line on standard error and status 2, and returns that line."""
    return lambda *args: error_line(command(*args))


def error_line(done: Output) -> str:
    assert done.status == 2, done
    *before, line = done.err.splitlines(keepends=True)
    assert line.startswith("error: "), done.err
    progress = ("loading PyTorch", "preparing the reviews", "training on", "epoch ")
    assert all(other.startswith(progress) for other in before), done.err
    return line


def run_script(script: str, cwd: Path, **environment: str) -> Output:
    """Runs lines of Python, which may import the package, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    return Output(done.returncode, done.stdout, done.stderr)


class Trained(NamedTuple):
    """A finished tiny run."""

    folder: Path  # where the command ran
    run: Path
    output: Output
    corpus: Path
    cache: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One tiny run, trained once for every test that only looks at it."""
    return train_in(tmp_path_factory.mktemp("trained"), make_reviews(100))


@pytest.fixture(scope="session")
def best(trained: Trained) -> Path:
    """Its best checkpoint."""
    return trained.run / "checkpoints/best.ckpt"


@pytest.fixture
def finished(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, in the working folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(trained.cache))
    shutil.copytree(trained.run, RUN)
    return RUN


def train_in(folder: Path, reviews: list[Review], *flags: str) -> Trained:
    corpus = write_csv(folder / "corpus.csv", reviews)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        output = command(*REPORTED, *flags, "--data.source", corpus)
    assert output.status == 0, output
    return Trained(folder, folder / RUN, output, corpus, folder / "cache")


def results_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


def checkpoint_of(run: Path, name: str = "last") -> dict[str, Any]:
    import torch

    content: dict[str, Any] = torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)
    return content


def events_of(run: Path) -> Any:
    """What TensorBoard reads in a run folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run), {"images": 0, "tensors": 0}).Reload()


def hparams_of(run: Path) -> dict[str, Any]:
    """The settings among TensorBoard's HPARAMS, in its order."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events_of(run).PluginTagToContent("hparams")
    columns = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    values = start.session_start_info.hparams
    names = {info.name: info.display_name for info in columns.hparam_infos}
    return {names[key]: values[key] for key in sorted(values)}


def shows(table: str, run: Path, split: str = "test") -> bool:
    """Whether a printed table has the accuracy and the loss of a run's results.json."""
    results = results_of(run)
    figures = f"{results[f'{split}_acc']:.2%}", f"{results[f'{split}_loss']:.4f}"
    return all(figure in table for figure in figures)
