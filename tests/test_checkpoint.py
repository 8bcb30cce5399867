"""What this program or Lightning wrote is read; what someone sends does no harm."""

import copy
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RUN, TINY, Fails, Run, Trained, results_of, run_script
from torch.nn.utils import prune
from torch.optim import LBFGS, Adafactor, AdamW, lr_scheduler

import lit_imdb
from lit_imdb.errors import UserError
from lit_imdb.model.network import SentimentRNN
from lit_imdb.training.checkpoint import read_checkpoint

Change = Callable[[dict[str, Any]], None]
Changed = Callable[[Change], Path]
NOT_OURS = "is not a checkpoint of this program"


@pytest.fixture
def changed(trained: Trained, tmp_path: Path) -> Changed:
    """A good checkpoint with one change."""

    def change_it(change: Change) -> Path:
        content = torch.load(trained.run / "checkpoints/last.ckpt", weights_only=True)
        change(content)
        torch.save(content, tmp_path / "sent.ckpt")
        return tmp_path / "sent.ckpt"

    return change_it


MISSING = object()


def set_in(*path: Any) -> Change:
    """Set the value at path[:-1] to path[-1], or remove it for `MISSING`."""
    *keys, last, value = path

    def change(content: Any) -> None:
        for key in keys:
            content = content[key]
        content[last] = value
        if value is MISSING:
            del content[last]

    return change


# --- what is read ---

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


@pytest.mark.parametrize("kept", ["the whole run", "last.ckpt alone"])
def test_a_run_is_resumed_where_its_folder_is_now(kept: str, fit: Run) -> None:
    fit()
    best = (RUN / "checkpoints/best.ckpt").read_bytes()
    shutil.move("logs", "old")
    last = Path("old/imdb/version_0/checkpoints/last.ckpt")
    if kept == "last.ckpt alone":
        last = Path(shutil.copy(last, "sent.ckpt"))
        shutil.rmtree("old")
    fit("--max_epochs", "3", "--model.lr", "9", "--ckpt_path", last)
    if kept == "last.ckpt alone":
        assert (RUN / "checkpoints/best.ckpt").is_file()
    else:  # the rate ruins the third epoch
        assert last.with_name("best.ckpt").read_bytes() == best


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_python_programs_write_and_read_checkpoints_too(corpus: Path) -> None:
    from pytorch_lightning import Trainer

    class Reviews(lit_imdb.ImdbDataModule):
        """A data module whose state has another name in the checkpoint."""

    settings: Any = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "max_epochs": 1, "log_every_n_steps": 1}
    data = Reviews(str(corpus), vocab_size=60, max_length=8, batch_size=16)
    module = lit_imdb.LitSentiment(vocab_size=60, embedding_dim=8, hidden_dim=8)
    trainer = Trainer(**settings)
    trainer.fit(module, data)
    for name, weights_only in (("whole.ckpt", False), ("weights.ckpt", True)):
        trainer.save_checkpoint(name, weights_only=weights_only)
        (tested,) = Trainer(**settings).test(
            lit_imdb.LitSentiment.load_from_checkpoint(name),
            Reviews.load_from_checkpoint(name),
            verbose=False,
        )
        assert [tested] == Trainer(**settings).test(module, data, name, verbose=False)
        assert lit_imdb.load(name).predict("A great film")[0].label in ("neg", "pos")


def test_masks_that_pruning_left_apart_are_applied(changed: Changed) -> None:
    def with_mask(content: dict[str, Any]) -> None:
        weights = content["state_dict"]
        cell = torch.nn.RNNCell(8, 8)
        prune.l1_unstructured(cell, "weight_hh", 0.5)  # type: ignore[no-untyped-call]
        del weights["net.cell0.weight_hh"]
        weights.update({f"net.cell0.{n}": w for n, w in cell.state_dict().items() if "hh_" in n})

    weight = lit_imdb.load(changed(with_mask)).net.cell0.weight_hh
    assert int((weight == 0).sum()) == 32


def test_states_of_any_optimizer_and_schedule_are_read(changed: Changed) -> None:
    def use(content: dict[str, Any]) -> None:
        net = SentimentRNN(60, 8, 8)
        weights = [w for w in net.parameters() if w.requires_grad]

        def loss() -> float:
            net.zero_grad()
            total = net(torch.randint(60, (4, 8))).sum()
            total.backward()
            return float(total.detach())

        in_another_order = [
            {"params": weights[:3:-1], "amsgrad": True},
            {"params": weights[:4], "lr": 1.0},
        ]
        fused = AdamW(in_another_order, fused=True)
        for optimizer in (Adafactor(weights), LBFGS(weights), fused):
            optimizer.step(loss)
            content["optimizer_states"].append(optimizer.state_dict())
        parts = [lr_scheduler.MultiStepLR(fused, [1]), lr_scheduler.StepLR(fused, 2)]
        schedules = [
            lr_scheduler.LambdaLR(fused, lambda epoch: 0.9**epoch),
            lr_scheduler.ReduceLROnPlateau(fused),
            lr_scheduler.SequentialLR(fused, parts, [2]),
        ]
        content["lr_schedulers"] = [schedule.state_dict() for schedule in schedules]

    read = read_checkpoint(changed(use))
    assert all(state["state"] for state in read["optimizer_states"])
    assert [len(read["optimizer_states"]), len(read["lr_schedulers"])] == [4, 3]


# --- code ---


class Payload:
    """Unpickled carelessly, it creates the file `ran`."""

    def __reduce__(self) -> Any:
        return (open, ("ran", "w"))


class Filler:
    """Unpickled, it is 2 GB."""

    def __reduce__(self) -> Any:
        return (bytearray, (2 * 10**9,))


def test_code_in_a_checkpoint_is_refused_and_does_not_run(changed: Changed, fails: Fails) -> None:
    with pytest.raises(UserError, match=r"sent\.ckpt is refused.*bytearray"):
        lit_imdb.load(changed(set_in("extra", Filler())))
    for place in (("extra",), ("hyper_parameters", "lr"), ("state_dict", "net.head.bias")):
        path = changed(set_in(*place, Payload()))
        with pytest.raises(UserError, match=r"sent\.ckpt is refused.*open"):
            lit_imdb.load(path)
        with pytest.raises(pickle.UnpicklingError):
            lit_imdb.LitSentiment.load_from_checkpoint(path)
    for command in ("fit", "validate", "test", "predict --text a", "export", "serve"):
        assert "sent.ckpt is refused" in fails(*command.split(), "--ckpt_path", path)
    assert not Path("ran").exists()
    assert not Path("logs").exists()
    torch.load(path, weights_only=False)  # the payload does work
    assert Path("ran").exists()


def test_a_damaged_checkpoint_and_a_bare_pickle_are_named_and_do_not_run(
    best: Path, changed: Changed
) -> None:
    whole = best.read_bytes()
    torch.save(Payload(), "old.ckpt", _use_new_zipfile_serialization=False)
    old = Path("old.ckpt").read_bytes()
    damaged = [whole[:size] for size in (0, 1, 100, len(whole) // 2, len(whole) - 100)]
    damaged += [b"no checkpoint\n", bytes(len(whole))]
    with zipfile.ZipFile(shutil.copy(best, "packed.ckpt"), "a", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data/99", os.urandom(1000))  # compressed, though not smaller
    large = changed(set_in("extra", [torch.zeros(10_000) for _ in range(50)]))
    with zipfile.ZipFile(large) as parts, zipfile.ZipFile("repeated.ckpt", "w") as bomb:
        for part in parts.infolist():
            if part.file_size == 40_000 and (
                same := [p for p in bomb.filelist if p.file_size == 40_000]
            ):
                bomb.filelist.append(copy.copy(same[0]))  # one part under fifty names
                bomb.filelist[-1].filename = part.filename
            else:
                bomb.writestr(part, parts.read(part))
    torch.save({"text": "a" * 17 * 2**20}, "long.ckpt")
    damaged += [Path(f"{name}.ckpt").read_bytes() for name in ("packed", "repeated", "long")]
    for content in (*damaged, pickle.dumps(Payload()), old, old + whole):
        Path("sent.ckpt").write_bytes(content)
        with pytest.raises(UserError, match=r"sent\.ckpt is damaged or no checkpoint"):
            lit_imdb.load("sent.ckpt")
    assert not Path("ran").exists()


# --- wrong values ---


def model_checkpoint(**values: Any) -> Change:
    """Change a ModelCheckpoint's state, which names files that it deletes: only those given."""
    no_files = {"kth_best_model_path": "", "last_model_path": "", "best_k_models": {}}

    def change(content: dict[str, Any]) -> None:
        (name,) = (name for name in content["callbacks"] if name.startswith("ModelCheckpoint"))
        content["callbacks"][name].update({**no_files, **values})

    return change


NAN = float("nan")
SHARED: list[Any] = []
for _ in range(15):  # 10 ** 15 values for a walk through all of them
    SHARED = [SHARED] * 10
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
SETTINGS, DATA = "hyper_parameters", "datamodule_hyper_parameters"
WRONG: dict[str, Change] = {
    "vocabulary without padding": set_in("ImdbDataModule", "vocabulary", "a\nb"),
    "too many words": set_in("ImdbDataModule", "vocabulary", "<pad>\n<unk>" + "\na" * 2000),
    "vocabulary is missing": set_in("ImdbDataModule", "vocabulary", MISSING),
    "size is a bit too large": set_in(SETTINGS, "hidden_dim", 10**6),
    "size is beyond 64 bits": set_in(SETTINGS, "embedding_dim", 10**400),
    "size is true": set_in(SETTINGS, "vocab_size", True),
    "dropout is NaN": set_in(SETTINGS, "dropout", NAN),
    "rate is NaN": set_in(SETTINGS, "lr", NAN),
    "setting is a class": set_in(SETTINGS, "extra", {"class_path": "os.system"}),
    "source is a list": set_in(DATA, "source", ["a"]),
    "huge length": set_in(DATA, "max_length", 10**12),
    "unknown tokenizer": set_in(DATA, "tokenizer", "os.system"),
    "NaN in the weights": set_in("state_dict", "net.head.bias", torch.tensor([NAN])),
    "NaN in weights that are averaged": set_in("current_model_state", {"a": torch.tensor([NAN])}),
    "a weight of another shape": set_in("state_dict", "net.head.bias", torch.zeros(2)),
    "a weight is missing": set_in("state_dict", "net.head.bias", MISSING),
    "a mask without a weight": set_in("state_dict", "net.head.bias_mask", torch.zeros(1)),
    "a weight is a number": set_in("state_dict", "net.head.bias", 0.0),
    "optimizer state over shared memory": set_in(
        *("optimizer_states", 0, "state", 0, "exp_avg", torch.zeros(1).expand(60, 8))
    ),
    "optimizer state of text": set_in("optimizer_states", 0, "state", 0, "mode", "abc"),
    "optimizer is a number": set_in("optimizer_states", 0, 7),
    "no state of the training": set_in("training", MISSING),
    "seed is negative": set_in("training", "seed", -1),
    "a sum is missing": set_in("training", "since_log_line", [0.0, 0.0]),
    "a sum is a tensor of three": set_in("training", "since_log_line", [torch.zeros(3), 0, 0]),
    "version is ancient": set_in("pytorch-lightning_version", "0.9.0"),
    "lists that share their parts": set_in("extra", SHARED),
    "a list in itself": set_in("extra", CIRCLE),
    "callbacks are a list": set_in("callbacks", []),
    "best path outside": model_checkpoint(best_model_path="/etc/passwd"),
    "best path is an address": model_checkpoint(dirpath="http://h", best_model_path="http://h/a"),
    "best path leads out": model_checkpoint(dirpath="a", best_model_path="a/../../b"),
    "a file to delete lies outside": model_checkpoint(best_k_models={"b": torch.tensor(0.0)}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_in_one_line(wrong: str, changed: Changed) -> None:
    with pytest.raises(UserError, match=NOT_OURS) as error:
        lit_imdb.load(changed(WRONG[wrong]))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_checkpoint_of_another_program_and_one_at_an_address_are_refused(fails: Fails) -> None:
    for content in ({"state_dict": {}}, [1, 2], 3, {}):
        torch.save(content, "other.ckpt")
        with pytest.raises(UserError, match=NOT_OURS):
            lit_imdb.load("other.ckpt")
    assert "train one with train.py" in fails("fit", "--ckpt_path", "other.ckpt")
    assert "addresses are refused" in fails("test", "--ckpt_path", "s3://bucket/a.ckpt")


def test_a_class_named_in_the_settings_is_not_loaded(changed: Changed) -> None:
    path = changed(set_in(SETTINGS, "class_path", "os.system"))
    assert type(lit_imdb.load(path).net).__name__ == "SentimentRNN"


STATE = ("optimizer_states", 0, "state", 0)
OTHER_STATES: dict[str, Change] = {
    "of another weight": set_in(
        *("optimizer_states", 0, "param_groups", 0, "params", [1, 0, *range(2, 11)])
    ),
    "of another kind too short": set_in(*STATE, "max_exp_avg_sq", torch.zeros(1)),
    "an empty step": set_in(*STATE, "step", torch.zeros(0)),
}


@pytest.mark.parametrize("state", OTHER_STATES)
def test_an_optimizer_state_that_does_not_fit_is_refused_before_the_first_step(
    state: str, changed: Changed, trained: Trained, run: Run
) -> None:
    flags = ("--trainer.enable_checkpointing", "false", "--max_epochs", "3")
    path = changed(OTHER_STATES[state])
    done = run("fit", *TINY, *flags, "--data.source", trained.corpus, "--ckpt_path", path)
    assert done.status == 2
    assert "not as large as its weight" in done.err.splitlines()[-1]


def test_a_checkpoint_of_another_size_is_explained(
    fails: Fails, trained: Trained, best: Path
) -> None:
    for flag in ("--model.hidden_dim", "--data.vocab_size"):
        line = fails("test", "--ckpt_path", best, "--data.source", trained.corpus, flag, "5")
        assert f"{flag} 5" in line
        assert "best.ckpt" in line


def test_inference_needs_no_lightning_and_no_compiler(best: Path, workspace: Path) -> None:
    script = f"""
import lit_imdb
from lit_imdb.inference import export, predict, serve
lit_imdb.load({str(best)!r}).predict("A great film")
slow_imports = ("pytorch_lightning", "lightning_fabric", "torch._dynamo")
print([name for name in slow_imports if name in sys.modules])
"""
    assert run_script(script, workspace).out == "[]\n"
