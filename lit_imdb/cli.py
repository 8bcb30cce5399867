"""The command line: what Lightning's commands do here."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from lit_imdb.errors import UserError
from lit_imdb.inference.classifier import encoder_of
from lit_imdb.memory import keep_freed_memory
from lit_imdb.messages import keep_messages_short
from lit_imdb.report.callback import Report
from lit_imdb.settings import SettingsCLI
from lit_imdb.training import results
from lit_imdb.training.checkpoint import run_of
from lit_imdb.training.history import History
from lit_imdb.training.loop import use_plain_loop
from lit_imdb.training.progress import ProgressBar
from lit_imdb.training.saving import DurableCheckpointIO, LastCheckpoint, OptimizerCheck


class CLI(SettingsCLI):
    """Runs in `logs/imdb/version_N`: their trainer, their commands and what they report."""

    def __init__(self, args: list[str]) -> None:
        self.best = ModelCheckpoint(
            filename="best", monitor="val/acc", mode="max", enable_version_counter=False
        )
        self.history = History(self.best)
        super().__init__(args)

    def before_instantiate_classes(self) -> None:
        trainer = self.config[self.subcommand].trainer
        if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
            mps = trainer.accelerator == "gpu" and torch.backends.mps.is_available()
            if not mps:
                raise UserError(
                    f"no GPU is available for --accelerator {trainer.accelerator}: leave the flag "
                    "out to take what there is, or use --accelerator cpu"
                )
        if self.subcommand != "fit" or trainer.fast_dev_run or trainer.logger is False:
            self.save_config_callback = None  # it belongs to a run folder, and there is none

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Adds what every run has: its folder, checkpoints, history and progress bar."""
        config = self._get(self.config_init, "trainer")
        own = config.callbacks or []
        callbacks: list[Callback] = [*own] if isinstance(own, list) else [own]
        if config.enable_progress_bar is not False:
            callbacks.append(ProgressBar())
        logger = config.logger
        if self.subcommand != "fit":
            logger = logger or False
            kwargs["enable_checkpointing"] = False
        else:
            if logger in (None, True):
                logger = self._run_logger()
            if config.enable_checkpointing is not False and not config.fast_dev_run:
                last = LastCheckpoint(self.config.fit.checkpoint_every_n_steps)
                callbacks += [self.best, last]
            callbacks += [self.history, OptimizerCheck()]
            if self.config.fit.report:
                callbacks.append(Report(self.history))
        plugins = [*(config.plugins or []), DurableCheckpointIO()]
        try:
            return super().instantiate_trainer(
                logger=logger, callbacks=callbacks, plugins=plugins, **kwargs
            )
        except (ValueError, TypeError, ImportError) as error:  # an unknown strategy or device
            raise UserError(f"--trainer: {error}") from error

    def _run_logger(self) -> TensorBoardLogger:
        """A new run folder, or the one that a resumed checkpoint lies in."""
        run = run_of(self.config.fit.ckpt_path)
        if run is None or self.checkpoint is None:
            logs = self.logs
            return TensorBoardLogger(logs.parent, name=logs.name, default_hp_metric=False)
        return TensorBoardLogger(
            run.parent.parent,
            name=run.parent.name,
            version=run.name,
            default_hp_metric=False,
            # points after the checkpoint, from the sitting that was cut off, are drawn anew
            purge_step=self.checkpoint["global_step"],
        )

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            self.datamodule.vocabulary = list(encoder_of(self.checkpoint).vocabulary)

    def fit(self, **kwargs: Any) -> None:
        """Fits, tests the best checkpoint, and reports."""
        use_plain_loop(self.trainer)
        self.trainer.fit(weights_only=True, **kwargs)
        if self._get(self.config, "trainer").fast_dev_run:
            print("fast_dev_run: every part of the program ran on a few batches; nothing is kept")
            return
        figures = results.fit_figures(self.trainer, self.history)  # before test loads the best
        best = self.best.best_model_path or None
        tested: dict[str, Any] = dict(  # empty where --trainer.limit_test_batches is 0
            *self.trainer.test(self.model, self.datamodule, best, verbose=False, weights_only=True)
        )
        figures |= {"test_acc": tested.get("test/acc"), "test_loss": tested.get("test/loss")}
        figures["seed"] = self.config.fit.seed_everything
        if self.trainer.is_global_zero:
            self._report_fit(figures)

    def validate(self, **kwargs: Any) -> None:
        self._report("val", self.trainer.validate(verbose=False, weights_only=True, **kwargs))

    def test(self, **kwargs: Any) -> None:
        self._report("test", self.trainer.test(verbose=False, weights_only=True, **kwargs))

    def _report(self, part: str, found: Sequence[Mapping[str, float]]) -> None:
        if not self.trainer.is_global_zero:
            return
        if not found:
            raise UserError(f"no batch was evaluated: leave out --trainer.limit_{part}_batches 0")
        (figures,) = found
        rows = {
            "source": self.datamodule.source,
            f"{part} reviews": f"{len(self.datamodule.parts[part]):,}",
            f"{part} accuracy": results.percent(figures[f"{part}/acc"]),
            f"{part} loss": f"{figures[f'{part}/loss']:.4f}",
            "checkpoint": self.config[self.subcommand].ckpt_path,
        }
        results.print_table(f"{part} part", rows)

    def _report_fit(self, figures: dict[str, Any]) -> None:
        if isinstance(self.trainer.logger, TensorBoardLogger):
            config = self.parser.dump(self.config, format="json")
            results.write_results(Path(self.trainer.logger.log_dir), figures, json.loads(config))
            shown = {f"hp/{name}": figures[name] for name in ("val_acc", "test_acc", "val_loss")}
            self.trainer.logger.log_hyperparams(
                {**self.model.hparams, **self.datamodule.hparams, "seed": figures["seed"]},
                # without validation there are no figures of it
                {name: value for name, value in shown.items() if value is not None},
                step=self.trainer.global_step,
            )
            self.trainer.logger.finalize("success")
        results.print_table("lit-imdb", results.fit_rows(figures))


def run(args: list[str]) -> None:
    """Runs one of Lightning's commands.

    Raises:
        UserError: What the user can mend, Lightning's own complaints about settings among them.
    """
    keep_messages_short()
    keep_freed_memory()
    try:
        CLI(args)
    except MisconfigurationException as error:
        raise UserError(str(error)) from error
