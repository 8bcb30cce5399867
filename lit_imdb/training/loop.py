"""Lightning's training loop, on a shorter way through plain steps.

On its way to a step Lightning asks strategy, plugins, profiler and data module, and calls every
hook of every callback, the empty ones too: 0.7 ms, where the step itself takes 6. This way: 0.15.
"""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.__version__ import version
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

from lit_imdb.data.datamodule import ImdbDataModule
from lit_imdb.model.module import LitSentiment

_WRITTEN_FOR = "2.6."  # the Lightning whose private parts these are

_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_OF_A_STEP = {  # what somebody may have put on the model or the data module itself
    *_HOOKS,
    *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
    *("training_step", "backward", "configure_gradient_clipping"),
    *("optimizer_step", "optimizer_zero_grad"),
}


class PlainLoop(_TrainingEpochLoop):
    """Does and counts in a plain step what Lightning does, in the same order.

    A step is plain where `LitSentiment` and `ImdbDataModule` train on one CPU, in 32 bits, with one
    optimizer, and nothing else has a part in it: no profiler, gradient clipping, accumulation or
    schedule of the learning rate. For any other step it is Lightning's own loop. Callbacks are
    looked at when an epoch begins.
    """

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self._plain = _is_plain(self.trainer, data_fetcher)
        self._hooks = {name: _own(self.trainer, name) for name in _HOOKS}
        self._validates_within = _validates_within(self.trainer)
        self._logs_every = max(1, self.trainer.log_every_n_steps)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        trainer: Any = self.trainer
        if self.restarting or not self._plain or trainer.accumulate_grad_batches > 1:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        logs = trainer._logger_connector
        batch, _, _ = next(data_fetcher)
        index = self.batch_idx + 1
        self.batch_progress.is_last_batch = data_fetcher.done
        self.batch_progress.increment_ready()
        logs._first_loop_iter = logs._first_loop_iter is None
        results: Any = self._results
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None
        logs._current_fx = None  # whoever logs puts a name here
        self._call("on_train_batch_start", batch, index)
        self.batch_progress.increment_started()
        loss = self._step(batch, index)
        self.batch_progress.increment_processed()
        self._call("on_train_batch_end", {"loss": loss}, batch, index)
        if logs._current_fx is None:  # nothing was logged: no figure has changed
            results.batch = results.batch_size = None
        else:
            logs.on_batch_end()
        self.batch_progress.increment_completed()
        if trainer.should_stop or (self._batches_that_stepped + 1) % self._logs_every == 0:
            logs.update_train_step_metrics()

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        trainer: Any = self.trainer
        if (
            self._validates_within
            or self.batch_progress.is_last_batch
            or not self._plain
            or trainer.accumulate_grad_batches > 1
            or trainer.should_stop
            or trainer.received_sigterm
        ):
            super().on_advance_end(data_fetcher)
        else:
            self._batches_that_stepped += 1

    def _step(self, batch: Any, index: int) -> Tensor:
        """Forward, backward and the optimizer's step; returns the loss, detached."""
        module: Any = self.trainer.lightning_module
        state = vars(module)  # to set what self.log looks at: nn.Module.__setattr__ takes longer
        epoch = self.trainer.current_epoch
        (optimizer,) = self.trainer.optimizers
        counts = self.automatic_optimization.optim_progress.optimizer

        def closure() -> Tensor:
            if not self._hooks["on_before_zero_grad"]:
                # before the forward: what it writes then lies where the gradients lay, in the cache
                module.optimizer_zero_grad(epoch, index, optimizer)
            with torch.enable_grad():
                state["_current_fx_name"] = "training_step"
                loss: Tensor = module.training_step(batch, index)
                state["_current_fx_name"] = None
                losses.append(loss.detach().clone())
                counts.zero_grad.increment_ready()
                self._call("on_before_zero_grad", optimizer)
                counts.zero_grad.increment_started()
                if self._hooks["on_before_zero_grad"]:
                    module.optimizer_zero_grad(epoch, index, optimizer)
                counts.zero_grad.increment_completed()
                self._call("on_before_backward", loss)
                module.backward(loss)
                self._call("on_after_backward")
            self._call("on_before_optimizer_step", optimizer)
            return losses[-1]

        losses: list[Tensor] = []
        counts.step.increment_ready()
        module.optimizer_step(epoch, index, optimizer, closure)
        counts.step.increment_completed()
        return losses[-1]

    def _call(self, name: str, *arguments: Any) -> None:
        hooks = self._hooks[name]
        if not hooks:
            return
        trainer, module = self.trainer, self.trainer.lightning_module
        state = vars(module)
        state["_current_fx_name"] = name
        for hook in hooks:
            hook(trainer, module, *arguments)
        state["_current_fx_name"] = None


def use_plain_loop(trainer: Trainer) -> None:
    """Gives a trainer that loop."""
    old = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = PlainLoop(trainer, old.min_steps, old.max_steps)


def _is_plain(trainer: Any, fetcher: _DataFetcher) -> bool:
    module = trainer.lightning_module
    return (
        version.startswith(_WRITTEN_FOR)
        and type(module) is LitSentiment
        and not _OF_A_STEP & vars(module).keys()
        and type(trainer.datamodule) is ImdbDataModule
        and not _OF_A_STEP & vars(trainer.datamodule).keys()
        and type(fetcher) is _PrefetchDataFetcher
        and type(trainer.strategy) is SingleDeviceStrategy
        and trainer.strategy.model is module
        and trainer.strategy.root_device.type == "cpu"
        and type(trainer.precision_plugin) is Precision
        and type(trainer.profiler) is PassThroughProfiler
        and not trainer.fast_dev_run
        and not trainer.gradient_clip_val
        and not trainer.lr_scheduler_configs
        and len(trainer.optimizers) == 1
    )


def _validates_within(trainer: Any) -> bool:
    """Whether there may be a validation before the epoch's last batch."""
    return (
        trainer.val_check_batch != trainer.num_training_batches  # is None where it goes by time
        or trainer.check_val_every_n_epoch is None
    )


def _own(trainer: Any, name: str) -> list[Callable[..., Any]]:
    """The callbacks' functions of this name that do something."""
    hooks = [getattr(callback, name) for callback in trainer.callbacks]
    return [hook for hook in hooks if callable(hook) and not _is_idle(hook, name)]


def _is_idle(hook: Callable[..., Any], name: str) -> bool:
    """Whether it is Lightning's empty one, or asks at each step whether to save and never does."""
    function = getattr(hook, "__func__", None)
    if function is ModelCheckpoint.on_train_batch_end:
        callback: Any = hook.__self__  # type: ignore[attr-defined]
        return callback._every_n_train_steps < 1 and callback._train_time_interval is None
    return function is getattr(Callback, name)
