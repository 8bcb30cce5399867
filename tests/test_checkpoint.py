"""What this program or Lightning wrote is read; what someone sends does no harm."""

import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RUN, TINY, Fails, Run, Trained, results_of, run_script
from prepared import SETTINGS
from torch.nn.utils import prune

import lit_imdb
from lit_imdb.errors import UserError
from lit_imdb.model.network import SentimentRNN
from lit_imdb.training.checkpoint import read_checkpoint

Content = dict[str, Any]
NOT_OURS = "is not a checkpoint of this program"


@pytest.fixture
def content(trained: Trained) -> Content:
    """What a good checkpoint holds."""
    content: Content = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
    return content


def sent(content: Content, place: str, value: Any) -> Path:
    """Write a checkpoint with `value` at `place`: keys with slashes between them."""
    part: Any = content
    *keys, last = (int(key) if key.isdecimal() else key for key in place.split("/"))
    for key in keys:
        part = part[key]
    part[last] = value
    torch.save(content, "sent.ckpt")
    return Path("sent.ckpt")


# Callbacks that a run may have together, and the files that the first four of them write.
CALLBACKS = """
trainer:
  callbacks:
  - {class_path: ModelCheckpoint, init_args: {monitor: val/loss, filename: "{val/loss:.2f}"}}
  - {class_path: ModelCheckpoint, init_args: {save_weights_only: true, dirpath: a, filename: own}}
  - {class_path: ModelCheckpoint, init_args: {save_last: link, dirpath: b, every_n_train_steps: 4}}
  - {class_path: ModelCheckpoint, init_args: {save_last: true, train_time_interval: "00:00:00:00"}}
  - {class_path: Timer, init_args: {duration: "00:01:00:00", interval: step}}
  - {class_path: EarlyStopping, init_args: {monitor: val/acc, strict: false}}
  - {class_path: GradientAccumulationScheduler, init_args: {scheduling: {0: 2}}}
  - {class_path: LearningRateMonitor}
"""
WRITTEN = ("**/loss*.ckpt", "a/own.ckpt", "b/last.ckpt", f"{RUN}/checkpoints/last-v1.ckpt")


def test_what_lightnings_callbacks_write_is_read(fit: Run, fails: Fails) -> None:
    Path("kind.yaml").write_text(CALLBACKS)
    fit("--config", "kind.yaml", "--max_epochs", "1")
    written = [next(Path().glob(file)) for file in WRITTEN]  # before there are more
    for path in written:
        assert lit_imdb.load(path).predict("A great film")[0].label in ("neg", "pos")
        if path.name == "own.ckpt":
            assert "holds the weights alone" in fails("fit", "--ckpt_path", path)
        else:
            fit("--config", "kind.yaml", "--ckpt_path", path)


def test_weights_that_processes_pass_in_a_file_are_read(fit: Run) -> None:
    fit("--devices", "2", "--strategy", "ddp_fork")
    assert results_of(RUN)["epochs"] == 2


def test_a_run_is_resumed_with_another_folder_for_checkpoints(fit: Run) -> None:
    own = ("--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=own")
    fit(*own, "--trainer.callbacks.dirpath=one")
    every = ("--checkpoint_every_n_steps", "2", "--ckpt_path", "one/own.ckpt")
    stopped = ("--trainer.max_steps", "22", "--trainer.callbacks.dirpath=two")  # within an epoch
    fit(*own, *every, *stopped, "--max_epochs", "9")
    last = Path("logs/imdb/version_1/checkpoints/last.ckpt")
    assert read_checkpoint(last)["global_step"] == 22
    fit(*own, "--ckpt_path", last, "--max_epochs", "6", "--trainer.max_steps", "-1")


@pytest.mark.parametrize("alone", [False, True], ids=["the whole run", "last.ckpt alone"])
def test_a_run_is_resumed_where_its_folder_is_now(alone: bool, fit: Run) -> None:
    fit()
    best = (RUN / "checkpoints/best.ckpt").read_bytes()
    last = Path(shutil.move("logs", "old"), "imdb/version_0/checkpoints/last.ckpt")
    if alone:
        last = last.rename("sent.ckpt")
        shutil.rmtree("old")
    # the rate ruins the third epoch
    fit("--max_epochs", "3", "--model.lr", "9", "--ckpt_path", last)
    kept = (RUN / "checkpoints/best.ckpt" if alone else last.with_name("best.ckpt")).read_bytes()
    assert alone != (kept == best)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.parametrize("weights_only", [False, True])
def test_python_programs_write_and_read_checkpoints_too(weights_only: bool, corpus: Path) -> None:
    from pytorch_lightning import Trainer

    class Reviews(lit_imdb.ImdbDataModule):
        """A data module whose state has another name in the checkpoint."""

    quiet: Any = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    data = Reviews(str(corpus), **SETTINGS)
    module = lit_imdb.LitSentiment(vocab_size=60, embedding_dim=8, hidden_dim=8)
    trainer = Trainer(**quiet, max_epochs=1, log_every_n_steps=1, enable_checkpointing=False)
    trainer.fit(module, data)
    trainer.save_checkpoint("own.ckpt", weights_only=weights_only)
    whole = [each.load_from_checkpoint("own.ckpt") for each in (lit_imdb.LitSentiment, Reviews)]
    expected = Trainer(**quiet).test(module, data, "own.ckpt", verbose=False)
    assert Trainer(**quiet).test(*whole, verbose=False) == expected
    assert lit_imdb.load("own.ckpt").predict("A great film")[0].label in ("neg", "pos")


def test_masks_that_pruning_left_apart_are_applied(content: Content) -> None:
    net = SentimentRNN(60, 8, 8)
    prune.l1_unstructured(net.cell0, "weight_hh", 0.5)  # type: ignore[no-untyped-call]
    weights = {f"net.{name}": weight for name, weight in net.state_dict().items()}
    loaded = lit_imdb.load(sent(content, "state_dict", weights)).net
    assert torch.equal(loaded.cell0.weight_hh, net.cell0.weight_hh)


@pytest.mark.parametrize(
    "kinds",
    [
        "--optimizer AdamW --optimizer.fused true --optimizer.amsgrad true",
        "--optimizer Adafactor --lr_scheduler ReduceLROnPlateau --lr_scheduler.monitor val/loss",
        "--optimizer LBFGS --lr_scheduler MultiStepLR --lr_scheduler.milestones [1]",
    ],
)
def test_states_of_any_optimizer_and_schedule_are_read(kinds: str, fit: Run) -> None:
    for resume in ((), ("--ckpt_path", "last", "--max_epochs", "3")):
        fit(*kinds.split(), *resume)
    assert results_of(RUN)["epochs"] == 3


class Call:
    """Unpickled carelessly, it calls a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


PAYLOAD = Call(open, "ran", "w")


@pytest.mark.parametrize("place", ["extra", "hyper_parameters/lr", "state_dict/net.head.bias"])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(place: str, content: Content) -> None:
    path = sent(content, place, PAYLOAD)
    with pytest.raises(UserError, match=r"sent\.ckpt is refused.*open"):
        lit_imdb.load(path)
    with pytest.raises(pickle.UnpicklingError):
        lit_imdb.LitSentiment.load_from_checkpoint(path)
    assert not Path("ran").exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert Path("ran").exists()


def test_no_command_calls_what_a_checkpoint_names(content: Content, fails: Fails) -> None:
    for call in (PAYLOAD, Call(bytearray, 2 * 10**9)):
        path = sent(content, "extra", call)
        for command in ("fit", "validate", "test", "predict --text a", "export", "serve"):
            assert "sent.ckpt is refused" in fails(*command.split(), "--ckpt_path", path)
    assert [path.name for path in Path().iterdir()] == ["sent.ckpt"]


def test_a_damaged_checkpoint_and_a_bare_pickle_are_named_and_do_not_run(best: Path) -> None:
    whole = best.read_bytes()
    torch.save(PAYLOAD, "old.ckpt", _use_new_zipfile_serialization=False)
    torch.save({"text": "a" * 17 * 2**20}, "long.ckpt")
    for name, method in (("packed", zipfile.ZIP_DEFLATED), ("repeated", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(shutil.copy(best, f"{name}.ckpt"), "a", method) as bomb:
            bomb.writestr("archive/data/99", os.urandom(1000))  # packed it is not smaller
            if name == "repeated":
                bomb.filelist += bomb.filelist[-1:] * 999
    old, *bombs = (Path(f"{n}.ckpt").read_bytes() for n in ("old", "long", "packed", "repeated"))
    damaged = [whole[:size] for size in (0, 1, 100, len(whole) // 2, len(whole) - 100)]
    damaged += [b"no checkpoint\n", bytes(len(whole)), pickle.dumps(PAYLOAD), old, old + whole]
    for content in (*damaged, *bombs):
        Path("sent.ckpt").write_bytes(content)
        with pytest.raises(UserError, match=r"sent\.ckpt is damaged or no checkpoint"):
            lit_imdb.load("sent.ckpt")
    assert not Path("ran").exists()


NAN = float("nan")
SHARED: list[Any] = []
for _ in range(15):  # 10 ** 15 values for a walk through all of them
    SHARED = [SHARED] * 10
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
STATE = "optimizer_states/0/state/0"
WRONG: dict[str, list[Any]] = {
    "ImdbDataModule": [{}],
    "ImdbDataModule/vocabulary": ["a\nb", "<pad>\n<unk>" + "\na" * 2000],
    "hyper_parameters/hidden_dim": [10**6],
    "hyper_parameters/embedding_dim": [10**400],
    "hyper_parameters/vocab_size": [True],
    "hyper_parameters/dropout": [NAN],
    "hyper_parameters/lr": [NAN],
    "hyper_parameters/extra": [{"class_path": "os.system"}],
    "datamodule_hyper_parameters/source": [["a"]],
    "datamodule_hyper_parameters/max_length": [10**12],
    "datamodule_hyper_parameters/tokenizer": ["os.system"],
    "state_dict": [{}],
    "state_dict/net.head.bias": [torch.tensor([NAN]), torch.zeros(2), 0.0],
    "state_dict/net.head.bias_mask": [torch.zeros(1)],
    "current_model_state": [{"averaged": torch.tensor([NAN])}],
    f"{STATE}/exp_avg": [torch.zeros(1).expand(60, 8)],  # larger than its memory
    f"{STATE}/mode": ["abc"],
    "optimizer_states/0": [7],
    "optimizer_states/0/param_groups/0/params": [7],
    "training": [None],
    "training/seed": [-1],
    "training/since_log_line": [[0.0, 0.0], [torch.zeros(3), 0, 0]],
    "pytorch-lightning_version": ["0.9.0"],
    "extra": [SHARED, CIRCLE],
    "callbacks": [[]],
    "callbacks/ModelCheckpoint of best.ckpt": [  # it deletes the files that it names
        {"dirpath": "a", "best_model_path": "/etc/passwd"},
        {"dirpath": "a", "best_model_path": "a/../../b"},
        {"dirpath": "http://h", "best_model_path": "http://h/a"},
        {"dirpath": "a", "best_k_models": {"b": torch.tensor(0.0)}},
    ],
}


@pytest.mark.parametrize(("place", "value"), [(p, value) for p in WRONG for value in WRONG[p]])
def test_a_wrong_value_is_refused_in_one_line(place: str, value: Any, content: Content) -> None:
    path = sent(content, place, value)
    with pytest.raises(UserError, match=rf"\A.*{NOT_OURS}.{{1,900}}\Z"):
        lit_imdb.load(path)


def test_a_checkpoint_of_another_program_and_one_at_an_address_are_refused(fails: Fails) -> None:
    for content in ({"state_dict": {}}, [1, 2], 3, {}):
        torch.save(content, "other.ckpt")
        with pytest.raises(UserError, match=NOT_OURS):
            lit_imdb.load("other.ckpt")
    assert "train one with train.py" in fails("fit", "--ckpt_path", "other.ckpt")
    assert "addresses are refused" in fails("test", "--ckpt_path", "s3://bucket/a.ckpt")


def test_a_class_named_in_the_settings_is_not_loaded(content: Content) -> None:
    path = sent(content, "hyper_parameters/class_path", "os.system")
    assert type(lit_imdb.load(path).net).__name__ == "SentimentRNN"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("optimizer_states/0/param_groups/0/params", [1, 0, *range(2, 11)]),
        (f"{STATE}/max_exp_avg_sq", torch.zeros(1)),
        (f"{STATE}/step", torch.zeros(0)),
    ],
)
def test_an_optimizer_state_that_does_not_fit_is_refused_before_the_first_step(
    place: str, value: Any, content: Content, run: Run, trained: Trained
) -> None:
    flags = (*TINY, "--max_epochs", "3", "--trainer.enable_checkpointing", "false")
    resume = ("--data.source", trained.corpus, "--ckpt_path", sent(content, place, value))
    done = run("fit", *flags, *resume)
    assert done.status == 2
    assert "not as large as its weight" in done.err.splitlines()[-1]


@pytest.mark.parametrize("flag", ["--model.hidden_dim", "--data.vocab_size"])
def test_a_checkpoint_of_another_size_is_explained(flag: str, fails: Fails, best: Path) -> None:
    line = fails("test", "--ckpt_path", best, flag, "5")
    assert f"{flag} 5: the weights in {best} are for" in line


def test_inference_needs_no_lightning_and_no_compiler(best: Path, workspace: Path) -> None:
    script = f"""
import lit_imdb
from lit_imdb.inference import export, predict, serve
lit_imdb.load({str(best)!r}).predict("A great film")
print({{"pytorch_lightning", "lightning_fabric", "torch._dynamo"}} & {{*sys.modules}})
"""
    assert run_script(script, workspace).out == "set()\n"
