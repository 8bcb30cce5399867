"""The commands fit, validate and test: their trainer and what they report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning.callbacks as lightning
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.callbacks import Callback, Checkpoint, LambdaCallback, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from lit_imdb.errors import UserError
from lit_imdb.inference.classifier import encoder_of
from lit_imdb.interrupts import let_the_system_stop
from lit_imdb.messages import keep_messages_short, show_why_it_stopped
from lit_imdb.report.callback import Report
from lit_imdb.settings import SettingsCLI
from lit_imdb.training import results
from lit_imdb.training.checkpoint import read_checkpoint, run_of
from lit_imdb.training.history import History
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
        for name in ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval"):
            if trainer[name] == 0:
                raise UserError(f"--trainer.{name} 0: expected more than 0")
        if trainer.barebones:
            raise UserError(
                "--trainer.barebones true: a run here has logs and checkpoints, which barebones "
                "forbids; leave it out"
            )
        if self.subcommand != "fit" or trainer.fast_dev_run or trainer.logger is False:
            self.save_config_callback = None  # it belongs to a run folder, and there is none

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Add what every run has: its folder, checkpoints, history and progress bar."""
        config = self.config_init[self.subcommand].trainer
        own = config.callbacks or []
        callbacks: list[Callback] = [*own] if isinstance(own, list) else [own]
        has_bar = any(isinstance(callback, lightning.ProgressBar) for callback in callbacks)
        if config.enable_progress_bar is not False and not has_bar:
            callbacks.append(ProgressBar())
        logger = config.logger
        if self.subcommand != "fit":
            callbacks = [c for c in callbacks if not isinstance(c, Checkpoint)]
            logger = logger or False
            kwargs["enable_checkpointing"] = False
        else:
            if logger in (None, True):
                logger = self._run_logger()
            if config.enable_checkpointing is not False and not config.fast_dev_run:
                last = LastCheckpoint(self.config.fit.checkpoint_every_n_steps)
                callbacks += [self.best, last]
            callbacks += [self.history, LambdaCallback(on_train_start=results.write_hparams)]
            callbacks.append(OptimizerCheck())
            if self.config.fit.report:
                callbacks.append(Report(self.history))
        plugins = [*(config.plugins or []), DurableCheckpointIO()]
        trainer = super().instantiate_trainer(
            logger=logger, callbacks=callbacks, plugins=plugins, **kwargs
        )
        if trainer.world_size > 1:  # each process waits for the others before it does anything
            let_the_system_stop()
        return trainer

    def _run_logger(self) -> TensorBoardLogger:
        """Return the logger of a new run folder, or of the one that the checkpoint lies in."""
        run = run_of(str(self.ckpt_path)) if self.ckpt_path else None
        if run is None or self.checkpoint is None:
            new = TensorBoardLogger(self.logs.parent, name=self.logs.name, default_hp_metric=False)
            new.version  # noqa: B018 - finds a free number now, the same for processes that it spawns
            return new
        return TensorBoardLogger(
            run.parent.parent,
            name=run.parent.name,
            version=run.name,
            default_hp_metric=False,
            purge_step=self.checkpoint["global_step"],  # the points after it will be logged again
        )

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            self.datamodule.vocabulary = list(encoder_of(self.checkpoint).vocabulary)

    def fit(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Train, test the best checkpoint and report."""
        self.trainer.fit(model, datamodule, ckpt_path=self.ckpt_path, weights_only=True)
        show_why_it_stopped(self.trainer)
        if self.config.fit.trainer.fast_dev_run:
            print("fast_dev_run: every part of the program ran on a few batches; nothing is kept")
            return
        best = self.best.best_model_path
        if best and not self.history.epochs:  # processes that are gone have trained: ddp_spawn
            last = read_checkpoint(Path(best).with_name("last.ckpt"))
            self.history.load_state_dict(last["callbacks"]["History"])
            datamodule.prepare_data()
            datamodule.setup("fit")
        figures = results.fit_figures(self.trainer, model, datamodule, self.history)
        figures |= self._test_best()
        figures["seed"] = self.config.fit.seed_everything
        if self.trainer.is_global_zero:
            self._report_fit(figures)

    def _test_best(self) -> dict[str, float | None]:
        """Test the best checkpoint as the command `test` does.

        The callbacks of the user stay out: one that averages weights, for example, would put those
        of the last step in place of the checkpoint's.
        """
        kept = (lightning.ProgressBar, Report)
        trainer: Any = self.trainer
        trainer.callbacks = [c for c in trainer.callbacks if isinstance(c, kept)]
        best = self.best.best_model_path or None
        found = trainer.test(self.model, self.datamodule, best, verbose=False, weights_only=True)
        tested: dict[str, float] = dict(*found)  # empty with --trainer.limit_test_batches 0
        return {"test_acc": tested.get("test/acc"), "test_loss": tested.get("test/loss")}

    def validate(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Evaluate a checkpoint on the validation split."""
        found = self.trainer.validate(
            model, datamodule=datamodule, ckpt_path=self.ckpt_path, verbose=False, weights_only=True
        )
        self._report("val", found)

    def test(self, model: LightningModule, datamodule: LightningDataModule, **_: Any) -> None:
        """Evaluate a checkpoint on the test split."""
        found = self.trainer.test(
            model, datamodule=datamodule, ckpt_path=self.ckpt_path, verbose=False, weights_only=True
        )
        self._report("test", found)

    def _report(self, split: str, found: Sequence[Mapping[str, float]]) -> None:
        if not self.trainer.is_global_zero:
            return
        if not found:
            raise UserError(f"no batch was evaluated: leave out --trainer.limit_{split}_batches 0")
        (metrics,) = found
        rows = {
            "source": self.datamodule.source,
            f"{split} reviews": f"{len(self.datamodule.splits[split]):,}",
            f"{split} accuracy": results.percent(metrics[f"{split}/acc"]),
            f"{split} loss": f"{metrics[f'{split}/loss']:.4f}",
            "checkpoint": str(self.ckpt_path),
        }
        results.print_table(f"{split} split", rows)

    def _report_fit(self, figures: dict[str, Any]) -> None:
        if isinstance(self.trainer.logger, TensorBoardLogger):
            config = json.loads(self.parser.dump(self.config, format="json"))
            used = {"model": self.model.hparams, "data": self.datamodule.hparams}
            for group, hparams in used.items():
                for name in ("lr", "batch_size"):
                    if name in hparams and hparams[name] != config["fit"][group][name]:
                        figures[f"found_{name}"] = hparams[name]  # by a callback
                config["fit"][group].update(hparams)
            results.write_results(Path(self.trainer.logger.log_dir), figures, config)
            shown = {f"hp/{name}": figures[name] for name in ("val_acc", "test_acc", "val_loss")}
            self.trainer.logger.log_hyperparams(
                {**self.model.hparams, **self.datamodule.hparams, "seed": figures["seed"]},
                # without validation there are no metrics of it
                {name: value for name, value in shown.items() if value is not None},
                step=self.trainer.global_step,
            )
            self.trainer.logger.finalize("success")
        results.print_table("lit-imdb", results.fit_rows(figures))


def run(args: list[str]) -> None:
    """Run one of Lightning's commands."""
    keep_messages_short()
    CLI(args)
