"""The commands fit, validate and test: their trainer and what they report.

What `python train.py` does:

1. `main` turns errors into one line and imports Lightning, which takes seconds.
2. `CLI(args)`, as Lightning's documentation has it, runs the whole command. `settings` makes one
   configuration of flags, files and, for a run that resumes, its checkpoint.
3. Lightning builds the data module and the model; `instantiate_trainer` adds what every run has.
4. `fit`: `prepare_data` fills the cache, `setup` opens it, and callbacks open the run folder and
   take over Ctrl-C. For each batch Lightning calls `LitSentiment.optimizer_step`, and from within
   it `training_step`; after each epoch it validates and saves.
5. The best checkpoint is tested, then the report, `results.json` and the table are written.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from pytorch_lightning.callbacks import Checkpoint, LambdaCallback
from pytorch_lightning.callbacks import ProgressBar as LightningProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lit_imdb.errors import UserError
from lit_imdb.files import whole_file
from lit_imdb.interrupts import stop_on_signals
from lit_imdb.messages import keep_messages_short, show_why_it_stopped
from lit_imdb.report.callback import Report
from lit_imdb.resumption import as_list
from lit_imdb.settings import SettingsCLI
from lit_imdb.training.checkpoint import encoder_of, read_checkpoint
from lit_imdb.training.history import History
from lit_imdb.training.optimizers import set_optimizer
from lit_imdb.training.progress import ProgressBar
from lit_imdb.training.results import print_results, print_table, results_of
from lit_imdb.training.saving import (
    BestCheckpoint,
    DurableCheckpointIO,
    LastCheckpoint,
    check_optimizer,
)
from lit_imdb.training.tensorboard import log_results, run_logger, write_hparams

_WITH_FOLDER = (TensorBoardLogger, CSVLogger)  # each of their runs has one


class CLI(SettingsCLI):
    """Trains and evaluates runs, each in its folder `logs/imdb/version_N`."""

    def __init__(self, args: list[str]) -> None:
        self.best = BestCheckpoint(
            filename="best", monitor="val/acc", mode="max", enable_version_counter=False
        )
        self.history = History(self.best)
        self.report: Report | None = None
        super().__init__(args)

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self.subcommand].trainer
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
            if trainer[name] == 0:
                raise UserError(f"--trainer.{name} 0: expected more than 0")
        if trainer.barebones:  # Lightning refuses it beside these
            trainer.logger = trainer.logger or False
            trainer.enable_progress_bar = trainer.enable_progress_bar or False
            trainer.log_every_n_steps = 0
        if self.subcommand != "fit" or trainer.fast_dev_run or trainer.logger is False:
            self.save_config_callback = None  # it belongs to a run folder, and there is none

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Add what every run has and the user has not brought: folder, checkpoints, bar."""
        config = self.config_init[self.subcommand].trainer
        saved = (self.checkpoint or {}).get("lr_schedulers", [])
        set_optimizer(self.model, self.config[self.subcommand], saved)
        callbacks = as_list(config.callbacks)
        if config.enable_progress_bar is not False and not _has(callbacks, LightningProgressBar):
            if sys.stderr.isatty():
                callbacks.append(ProgressBar())
            else:
                kwargs["enable_progress_bar"] = False  # a log file has no use for it
        if self.subcommand == "fit" and not config.barebones:
            kwargs["logger"] = self._loggers(config.logger)
            callbacks += self._callbacks_of_fit(config)
        else:
            callbacks = [c for c in callbacks if not isinstance(c, Checkpoint)]
            kwargs |= {"logger": config.logger or False, "enable_checkpointing": False}
        plugins = as_list(config.plugins)
        if not _has(plugins, CheckpointIO):
            plugins.append(DurableCheckpointIO())
        trainer = super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)
        stop_on_signals(trainer.world_size)
        return trainer

    def _loggers(self, given: Any) -> Any:
        """Return the user's loggers; the first one's folder is the run's."""
        if given is False:
            return False
        loggers = as_list(None if given is True else given)
        if not _has(loggers, _WITH_FOLDER):
            loggers.append(run_logger(self.logs, self.ckpt_path, self.checkpoint))
        return sorted(loggers, key=lambda each: not isinstance(each, _WITH_FOLDER))

    def _callbacks_of_fit(self, config: Any) -> list[Callback]:
        callbacks: list[Callback] = []
        if config.enable_checkpointing is not False and not config.fast_dev_run:
            callbacks += [self.best, LastCheckpoint(self.config.fit.checkpoint_every_n_steps)]
        callbacks += [self.history, LambdaCallback(on_train_start=_start_run)]
        if self.config.fit.report:
            self.report = Report(self.history)
            callbacks.append(self.report)
        return callbacks

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            self.datamodule.vocabulary = list(encoder_of(self.checkpoint).vocabulary)

    def fit(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Train, test the best checkpoint and report."""
        self.trainer.fit(model, datamodule, ckpt_path=self.ckpt_path, weights_only=True)
        show_why_it_stopped(self.trainer)
        if self.config.fit.trainer.fast_dev_run or self.config.fit.trainer.barebones:
            print("it ran to the end; fast_dev_run and barebones keep nothing of a run")
            return
        best = self.best.best_model_path
        if best and not self.history.epochs:  # processes that are gone have trained: ddp_spawn
            last = read_checkpoint(Path(best).with_name("last.ckpt"))
            self.history.load_state_dict(last["callbacks"]["History"])
            datamodule.prepare_data()
            datamodule.setup("fit")
        tested = self._test_best()
        if self.trainer.is_global_zero:
            self._finish_run(tested)

    def _test_best(self) -> dict[str, float]:
        """Test the best checkpoint, or the last weights if none was kept, as `test` does.

        The callbacks of the user stay out: one that averages weights, for example, would put those
        of the last step in place of the checkpoint's.
        """
        trainer: Any = self.trainer
        trainer.callbacks = [c for c in trainer.callbacks if isinstance(c, LightningProgressBar)]
        best = self.best.best_model_path or None
        found = trainer.test(self.model, self.datamodule, best, verbose=False, weights_only=True)
        return dict(*found)  # empty with --trainer.limit_test_batches 0

    def validate(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Evaluate a checkpoint on the validation split."""
        self._evaluate("val", self.trainer.validate)

    def test(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Evaluate a checkpoint on the test split."""
        self._evaluate("test", self.trainer.test)

    def _evaluate(self, split: str, run: Callable[..., Sequence[Mapping[str, float]]]) -> None:
        (metrics,) = run(
            self.model, self.datamodule, self.ckpt_path, verbose=False, weights_only=True
        ) or [{}]
        if not self.trainer.is_global_zero:
            return
        if not metrics:
            raise UserError(
                f"nothing was measured: leave out --trainer.limit_{split}_batches 0 and "
                "--trainer.barebones true"
            )
        rows = {
            "source": self.datamodule.source,
            f"{split} reviews": f"{len(self.datamodule.splits[split]):,}",
            f"{split} accuracy": f"{metrics[f'{split}/acc']:.2%}",
            f"{split} loss": f"{metrics[f'{split}/loss']:.4f}",
            "checkpoint": str(self.ckpt_path),
        }
        print_table(f"{split} split", rows)

    def _finish_run(self, tested: dict[str, float]) -> None:
        """Write the report, HPARAMS and results.json, and print the table."""
        config, default = (
            json.loads(self.parser.dump(settings, format="json"))
            for settings in (self.config, self.default)
        )
        results = results_of(
            self.trainer, self.model, self.datamodule, self.history, tested, config, default
        )
        if results["run"]:
            pictures = {}
            if self.report:
                pictures = self.report.write(self.trainer, self.model, results)
            for logger in self.trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    log_results(logger, self.trainer, results, pictures)
                    logger.finalize("success")
            # after all else: with it, the run is finished
            with whole_file(Path(results["run"], "results.json")) as file:
                file.write(f"{json.dumps(results, indent=2)}\n".encode())
        print_results(results)


def _has(objects: list[Any], kind: Any) -> bool:
    return any(isinstance(each, kind) for each in objects)


def _start_run(trainer: Any, module: Any) -> None:
    check_optimizer(trainer)
    write_hparams(trainer, module)


def run(args: list[str]) -> None:
    """Run one of Lightning's commands."""
    keep_messages_short()
    CLI(args)
