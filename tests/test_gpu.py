"""What an NVIDIA GPU must do as well as a CPU: `pytest -m gpu`."""

import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import REPORTED, RUN, TINY, Run, results_of
from networks import ON_GPU, network, train
from torch import Tensor

from lit_imdb import LitSentiment, SentimentRNN, load
from lit_imdb.model.graphs import Graphs

pytestmark = ON_GPU
GPU = ("--accelerator", "gpu")


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Counts the captures."""
    capture = Mock(wraps=torch.cuda.make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    return capture


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("at_every_word", [False, True], ids=["last", "every"])
def test_graphs_and_the_plain_way_end_with_the_same_bits(
    at_every_word: bool, dropout: float, capture: Mock
) -> None:
    found, expected = (
        train(call, network(dropout=dropout).cuda(), at_every_word=at_every_word)
        for call in (Graphs(), SentimentRNN.__call__)
    )
    assert capture.call_count == 1
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("what", ["hook", "autocast", "anomaly", "reference"])
def test_where_python_must_run_in_each_step_nothing_is_captured(what: str, capture: Mock) -> None:
    net = network("reference" if what == "reference" else "auto").cuda()
    calls: list[Any] = []
    if what == "hook":
        net.head.register_forward_hook(lambda *_: calls.append(1))
    with (
        torch.autocast("cuda", torch.bfloat16, enabled=what == "autocast"),
        torch.autograd.set_detect_anomaly(what == "anomaly"),
    ):
        train(Graphs(), net)
    assert not capture.called
    assert len(calls) == (5 if what == "hook" else 0)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_it_trains_in_every_precision(precision: str, run: Run, corpus: Path) -> None:
    done = run(*TINY, *GPU, "--precision", precision, "--data.source", corpus)
    assert done.status == 0, done.err
    assert results_of(RUN)["device"] == "cuda:0"
    assert results_of(RUN)["test_acc"] > 0.9


def test_a_resumed_run_ends_with_the_same_bits(
    run: Run, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = LitSentiment.training_step

    def terminated(lit: LitSentiment, *args: Any) -> Tensor:
        if lit.global_step == 7:  # in the middle of an epoch
            signal.raise_signal(signal.SIGTERM)
        return step(lit, *args)

    flags = (*TINY, *GPU, "--data.source", corpus)
    assert run(*flags).status == 0
    with monkeypatch.context() as patch:
        patch.setattr(LitSentiment, "training_step", terminated)
        assert run(*flags).status == 128 + signal.SIGTERM
    assert run("fit", "--ckpt_path", "last").status == 0
    runs = RUN, RUN.with_name("version_1")
    whole, resumed = (torch.load(each / "checkpoints/last.ckpt")["state_dict"] for each in runs)
    torch.testing.assert_close(resumed, whole, atol=0, rtol=0)


@pytest.mark.parametrize(("trained_on", "other"), [("gpu", "cpu"), ("cpu", "gpu")])
def test_checkpoints_move_between_gpu_and_cpu(
    trained_on: str, other: str, run: Run, corpus: Path
) -> None:
    flags = ("--accelerator", trained_on, "--data.source", corpus)
    assert run(*TINY, *flags).status == 0
    tested = run("test", "--accelerator", other)
    assert f"{results_of(RUN)['test_acc']:.2%}" in tested.out
    texts = [line.split('"')[1] for line in corpus.read_text().splitlines()[1:]]
    best = RUN / "checkpoints/best.ckpt"
    cpu, gpu = (load(best, device).predict(texts) for device in ("cpu", "cuda"))
    for one, two in zip(cpu, gpu, strict=True):
        assert one.label == two.label
        assert one.probability == pytest.approx(two.probability, abs=1e-4)


def test_no_command_prints_a_warning(run: Run, corpus: Path) -> None:
    for command in (
        (*REPORTED, *GPU, "--data.source", corpus),
        *(("validate", *GPU), ("test", *GPU)),
        ("predict", corpus, "--device", "cuda", "--output", "answers.csv"),
        ("predict", "--text", "A lovely film", "--device", "cuda"),
    ):
        done = run(*command)
        assert done.status == 0, done.err
        assert "warning" not in done.err, done.err
