"""What somebody adds: each is one place (docs/extending.md)."""

import copy
import dataclasses
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, RUN, TINY, Fails, Run, make_reviews, results_of, run_script, shows
from prepared import data_of
from torch import nn

import lit_imdb
from lit_imdb.data.source import SOURCES
from lit_imdb.data.text import TOKENIZERS, Tokenizer
from lit_imdb.errors import UserError
from lit_imdb.model.module import LitSentiment
from lit_imdb.model.recurrence import reference

PAGE = (ROOT / "docs/extending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    """The source and the tokenizer of the docs."""
    names: dict[str, Any] = {"Tokenizer": Tokenizer, "read_my_reviews": lambda: make_reviews(100)}
    exec("".join(block for block in BLOCKS if "import" not in block), names)
    monkeypatch.setitem(SOURCES, "novels", names["Novels"])
    monkeypatch.setitem(TOKENIZERS, "vowels", names["VOWELS"])
    return names["VOWELS"]


def test_an_added_source_and_tokenizer_train_and_test(fit: Run, works: Run, fails: Fails) -> None:
    fit("--data.source", "novels", "--data.tokenizer", "vowels")
    assert results_of(RUN)["reviews"] == {"train": 144, "val": 16, "test": 40}
    assert lit_imdb.load().encoder.tokens("A moving film!") == ["a", "o", "i", "i"]
    assert "novels" in works("test", "--accelerator", "cpu").out
    works("export", "--format", "torch", "--output", "out")
    assert "Reviews of novels." in Path("out/MODEL_CARD.md").read_text()
    line = fails(*TINY, "--data.tokenizer", "letters")
    assert "unknown tokenizer 'letters': expected one of words, basic_english, vowels" in line


def test_another_version_of_a_tokenizer_is_prepared_again(
    added: Tokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for version, prepared in ((1, 1), (1, 0), (2, 1)):
        monkeypatch.setitem(TOKENIZERS, "vowels", dataclasses.replace(added, version=version))
        data_of(Path("novels"), tokenizer="vowels")
        assert capsys.readouterr().err.count("preparing the reviews") == prepared, version


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
def modules(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`own`, and the recipe of the docs: `my_module` and gru.yaml."""
    (source,) = (block for block in BLOCKS if "GRUCell" in block)
    (config,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for name, content in (("own.py", OWN), ("my_module.py", source), ("gru.yaml", config)):
        (workspace / name).write_text(content)
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    monkeypatch.syspath_prepend(workspace)


@pytest.mark.usefixtures("modules")
def test_a_model_a_data_module_and_a_callback_of_ones_own_train_resume_and_are_tested(
    fit: Run, works: Run
) -> None:
    fit("--model=own.Small", "--data=own.ValidatesOnTest", "--trainer.callbacks=own.Touch")
    works("fit", "--ckpt_path", "last", "--max_epochs", "3")
    assert sorted(map(str, Path().glob("epoch*"))) == ["epoch0", "epoch1", "epoch2"]
    results = results_of(RUN)
    assert results["val_loss"] == results["test_loss"]
    assert "found_lr" not in results  # the model has no such setting
    assert shows(works("test", "--accelerator", "cpu").out, RUN)


@pytest.mark.usefixtures("modules")
def test_the_recipe_of_a_gru_trains_tests_resumes_loads_and_answers(
    fit: Run, works: Run, fails: Fails
) -> None:
    fit("--config", "gru.yaml")
    whole = results_of(RUN)
    assert whole["config"]["fit"]["model"]["class_path"] == "my_module.GRU"
    assert whole["changed"]["lr_scheduler.max_lr"] == 0.01
    assert not {"optimizer.betas", "lr_scheduler.pct_start"} & set(whole["changed"])
    last = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    (schedule,) = last["lr_schedulers"]
    assert schedule["last_epoch"] == schedule["total_steps"] == 2 * 9  # steps
    assert last["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.01
    (RUN / "results.json").unlink()  # as of a run that was cut off in its final test
    works("fit", "--ckpt_path", "last")
    assert results_of(RUN)["test_loss"] == whole["test_loss"]
    assert "leave it out" in fails("fit", "--ckpt_path", "last", "--max_epochs", "9")
    assert shows(works("test", "--accelerator", "cpu").out, RUN)
    assert "another network's weights" in fails("test", "--model", "LitSentiment")
    assert "positive:" in works("predict", "--text", "a lovely film").out
    assert "cannot export GRUCell" in fails("export")
    shutil.copy(RUN / "checkpoints/best.ckpt", "alone.ckpt")
    answers = lit_imdb.load().predict("a lovely film")
    gru = sys.modules["my_module"].GRU
    assert lit_imdb.load("alone.ckpt", model=gru).predict("a lovely film") == answers
    with pytest.raises(UserError, match="class of your own"):
        lit_imdb.load("alone.ckpt")


def test_an_lstm_is_unrolled_as_torch_does() -> None:
    cell, whole = nn.LSTMCell(3, 4), nn.LSTM(3, 4, batch_first=True)
    whole.load_state_dict({f"{name}_l0": weight for name, weight in cell.state_dict().items()})
    inputs = torch.randn(5, 6, 3)  # (B, T, E)
    found = reference([cell], inputs, [None], torch.zeros(5))  # type: ignore[list-item]
    torch.testing.assert_close(found, whole(inputs)[1][0][0])


FORMS = {
    "--model my_module.GRU --model.lr 0.5": "class_path: my_module.GRU",
    "--model.class_path my_module.GRU --model.init_args.lr 0.5": "lr: 0.5",
    "--model lit_imdb.model.ngrams.LitNGrams": "lr: 0.005",  # its own default
    "--data ImdbDataModule --data.batch_size 7": "batch_size: 7",
    "--optimizer SGD --optimizer.momentum 0.9": "momentum: 0.9",
    "--lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val/loss": "monitor: val/loss",
    "--trainer.profiler simple": "profiler: simple",
    "--trainer.callbacks Timer": "interval: step",  # a default that is of an enum
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("modules")
def test_forms_of_lightnings_documentation_are_read_and_can_be_read_again(
    form: str, works: Run
) -> None:
    printed = works(*form.split(), "--print_config").out
    assert f" {FORMS[form]}\n" in printed
    Path("printed.yaml").write_text(printed)
    assert works("--config", "printed.yaml", "--print_config").out == printed


def test_a_tested_model_can_be_copied_and_pickled(best: Path) -> None:
    model = LitSentiment.load_from_checkpoint(best).eval()
    model.on_test_epoch_start()  # now it has the network in its other form too
    ids = torch.randint(2, 60, (3, 8))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(ids), model(ids))
