"""What somebody adds: each is one place (docs/extending.md)."""

import copy
import dataclasses
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT, RUN, SHORT, TINY, Fails, Run, make_reviews, results_of, run_script
from prepared import data_of
from torch import nn

import lit_imdb
from lit_imdb.data.source import SOURCES
from lit_imdb.data.text import TOKENIZERS, Tokenizer
from lit_imdb.errors import UserError
from lit_imdb.model.module import LitSentiment
from lit_imdb.model.recurrence import reference

VOWELS = Tokenizer("vowels", version=1, rules=(("[^aeiou]+", " "),))


class Novels:
    name = "novels"
    note = "Reviews of novels."
    licence = "CC0"

    def fingerprint(self) -> object:
        return "first edition"

    def reviews(self) -> Iterator[tuple[str, int, bool]]:
        for seed, count in enumerate((100, 15)):
            for text, label in make_reviews(count, seed):
                yield text, label, seed == 1


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "novels", Novels)
    monkeypatch.setitem(TOKENIZERS, "vowels", VOWELS)


def test_an_added_source_and_tokenizer_train_and_test(fit: Run, run: Run, fails: Fails) -> None:
    fit("--data.source", "novels", "--data.tokenizer", "vowels")
    results = results_of(RUN)
    assert results["source"] == "novels"
    assert results["reviews"] == {"train": 180, "val": 20, "test": 30}
    encoder = lit_imdb.load().encoder
    assert encoder.tokens("A moving film!") == ["a", "o", "i", "i"]
    assert set("".join(encoder.vocabulary[2:])) <= set("aeiou")
    assert "novels" in run("test", "--accelerator", "cpu").out
    assert run("export", "--format", "torch", "--output", "out").status == 0
    assert "Reviews of novels." in Path("out/MODEL_CARD.md").read_text()
    line = fails(*TINY, "--data.tokenizer", "letters")
    assert "unknown tokenizer 'letters': expected one of words, basic_english, vowels" in line


def test_another_version_of_a_tokenizer_has_another_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def folders_after_a_preparation() -> set[Path]:
        data_of(Path("novels"), tokenizer="vowels", cache_dir="own")
        return {path for path in Path("own").iterdir() if path.is_dir()}

    first = folders_after_a_preparation()
    assert folders_after_a_preparation() == first
    monkeypatch.setitem(TOKENIZERS, "vowels", dataclasses.replace(VOWELS, version=2))
    assert folders_after_a_preparation() > first


def test_a_setting_of_the_network_needs_to_stand_in_its_signature_alone(
    corpus: Path, tmp_path: Path
) -> None:
    args = [*map(str, TINY), "--data.source", str(corpus), "--model.scale", "3"]
    script = f"""
from pathlib import Path
import lit_imdb.main
from lit_imdb.model import network
source = Path(network.__file__).read_text()
source = source.replace("dropout: float = 0.2,", "dropout: float = 0.2, scale: float = 1,")
source = source.replace("self.dropout = dropout", "self.dropout, self.scale = dropout, scale")
exec(source, vars(network))
lit_imdb.main.main({args!r})
lit_imdb.main.main(["test", "--accelerator", "cpu"])
print("scale", lit_imdb.load().net.scale)
"""
    done = run_script(script, tmp_path)  # jsonargparse keeps signatures that it has read
    assert done.status == 0, done
    assert done.out.endswith("scale 3.0\n")
    assert results_of(RUN)["config"]["fit"]["model"]["scale"] == 3


OWN = """
from pathlib import Path
from lit_imdb import ImdbDataModule, LitSentiment
from pytorch_lightning import Callback

class Small(LitSentiment):
    def __init__(self, vocab_size: int = 60) -> None:
        super().__init__(vocab_size=vocab_size, hidden_dim=8)

class Touch(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        Path(f"epoch{trainer.current_epoch}").touch()

class ValidatesOnTest(ImdbDataModule):
    val_dataloader = ImdbDataModule.test_dataloader
"""


@pytest.fixture
def own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module `own` where Python finds it."""
    Path("own.py").write_text(OWN)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "own", raising=False)


@pytest.mark.usefixtures("own")
def test_a_callback_and_a_data_module_are_of_a_module_of_ones_own(fit: Run, run: Run) -> None:
    fit("--trainer.callbacks", "own.Touch", "--data", "own.ValidatesOnTest")
    assert sorted(map(str, Path().glob("epoch*"))) == ["epoch0", "epoch1"]
    results = results_of(RUN)
    assert results["val_loss"] == results["test_loss"]
    assert f"{results['test_loss']:.4f}" in run("test", "--accelerator", "cpu").out


@pytest.mark.usefixtures("own")
def test_a_model_without_a_setting_of_its_own_trains_resumes_and_is_tested(
    run: Run, corpus: Path
) -> None:
    assert run("fit", *SHORT, "--data.source", corpus, "--model", "own.Small").status == 0
    assert "found_lr" not in results_of(RUN)
    done = run("fit", "--ckpt_path", "last", "--max_epochs", "3")
    assert done.status == 0, done
    assert run("test", "--accelerator", "cpu").status == 0


@pytest.fixture
def gru(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe's file, and its module where Python finds it."""
    page = (ROOT / "docs/extending.md").read_text()
    (source,) = re.findall(r"```python\n([^`]*GRUCell.*?)```", page, re.DOTALL)
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_module.py").write_text(source)
    (tmp_path / "gru.yaml").write_text(config)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    return tmp_path / "gru.yaml"


def test_the_recipe_of_a_gru_trains_tests_resumes_loads_and_answers(
    fit: Run, run: Run, fails: Fails, gru: Path
) -> None:
    fit("--config", gru)
    whole = results_of(RUN)
    assert whole["config"]["fit"]["model"]["class_path"] == "my_module.GRU"
    assert whole["changed"]["lr_scheduler.max_lr"] == 0.01
    assert not {"optimizer.betas", "lr_scheduler.pct_start"} & set(whole["changed"])
    last = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    (schedule,) = last["lr_schedulers"]
    assert schedule["last_epoch"] == schedule["total_steps"] == 2 * 9  # steps
    assert last["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.01
    (RUN / "results.json").unlink()  # as of a run that was cut off in its final test
    assert run("fit", "--ckpt_path", "last").status == 0
    assert results_of(RUN)["test_loss"] == whole["test_loss"]
    assert "leave it out" in fails("fit", "--ckpt_path", "last", "--max_epochs", "9")
    assert f"{whole['test_loss']:.4f}" in run("test", "--accelerator", "cpu").out
    assert "another network's weights" in fails("test", "--model", "LitSentiment")
    assert "positive:" in run("predict", "--text", "a lovely film").out
    assert "cannot export GRUCell" in fails("export")
    shutil.copy(RUN / "checkpoints/best.ckpt", "alone.ckpt")
    answers = lit_imdb.load().predict("a lovely film")
    own: Any = sys.modules["my_module"]
    assert lit_imdb.load("alone.ckpt", model=own.GRU).predict("a lovely film") == answers
    with pytest.raises(UserError, match="class of your own"):
        lit_imdb.load("alone.ckpt")


def test_an_lstm_is_unrolled_as_torch_does() -> None:
    cell, whole = nn.LSTMCell(3, 4), nn.LSTM(3, 4, batch_first=True)
    whole.load_state_dict({f"{name}_l0": weight for name, weight in cell.state_dict().items()})
    inputs = torch.randn(5, 6, 3)  # (B, T, E)
    found = reference([cell], inputs, [None], torch.zeros(5))  # type: ignore[list-item]
    torch.testing.assert_close(found, whole(inputs)[1][0][0])


FORMS: dict[str, dict[str, Any]] = {
    "--model my_module.GRU --model.lr 0.5": {"model.class_path": "my_module.GRU", "model.lr": 0.5},
    "--model.class_path my_module.GRU --model.init_args.lr 0.5": {"model.lr": 0.5},
    "--data ImdbDataModule --data.batch_size 7": {"data.batch_size": 7},
    "--optimizer SGD --optimizer.momentum 0.9": {"optimizer.momentum": 0.9},
    "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val/loss": {
        "lr_scheduler.monitor": "val/loss"
    },
    "--trainer.profiler simple": {"trainer.profiler": "simple"},
    "--model lit_imdb.model.ngrams.LitNGrams": {"model.lr": 0.005},  # its own default
    "--trainer.callbacks Timer": {},  # a default that is of an enum
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("gru")
def test_forms_of_lightnings_documentation_are_read_and_can_be_read_again(
    form: str, run: Run
) -> None:
    first = run(*form.split(), "--print_config")
    Path("printed.yaml").write_text(first.out)
    done = run("--config", "printed.yaml", "--print_config")
    assert done.out == first.out
    printed = yaml.safe_load(done.out)
    for key, value in FORMS[form].items():
        group, name = key.split(".")
        found = printed[group]
        assert {**found, **found.get("init_args", {})}[name] == value


def test_public_classes_can_be_copied_pickled_and_loaded(best: Path) -> None:
    model = LitSentiment.load_from_checkpoint(best).eval()
    data = lit_imdb.ImdbDataModule.load_from_checkpoint(best)
    assert data.encoder.tokens("A film!") == ["a", "film"]
    model.on_test_epoch_start()  # now it has the network in its other form too
    ids = torch.randint(2, 60, (3, 8))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(ids), model(ids))
        assert other.hparams == model.hparams
