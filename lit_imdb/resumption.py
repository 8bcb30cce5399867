"""What a run that resumes keeps, and what may differ from before."""

import json
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_warn

from lit_imdb.errors import UserError
from lit_imdb.training.checkpoint import run_of

_FINDERS = ("LearningRateFinder", "BatchSizeFinder")  # a run that resumes has what they found
_NOT_SHOWN = (
    *("config", "ckpt_path", "__default_config__", "model.vocab_size"),
    *("trainer.callbacks", "trainer.logger"),  # too long
)
# The best checkpoint and the metrics so far are of these data.
_OF_METRICS = ("data.source", "data.tokenizer", "data.max_length", "data.val_fraction")


def continue_run(path: Path, checkpoint: dict[str, Any], before: Namespace, now: Namespace) -> None:
    """Make the settings `now` those of the run of a checkpoint, and warn of what differs.

    Raises:
        UserError: It would not be the same run, or nothing is left to train.
    """
    run = run_of(path)
    _keep(run, before, now)
    old, new = ({k.replace(".init_args", ""): v for k, v in c.items()} for c in (before, now))
    changed = [name for name, value in new.items() if old.get(name) != value]
    fixed = ("seed_everything", "optimizer", "lr_scheduler", *(_OF_METRICS if run else ()))
    if any("total_steps" in state for state in checkpoint["lr_schedulers"]):
        fixed += ("trainer.max_epochs", "trainer.max_steps")  # a schedule has its end
    for name in changed:
        if name == "data.source" and Path(old[name]).name == Path(new[name]).name:
            continue  # it was moved
        if name.startswith(fixed):
            raise UserError(
                f"--{name} {new[name]}: the run of {path} has {old.get(name)}; leave it out, "
                "or retrain without --ckpt_path"
            )
    trained = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if run and now.trainer.max_epochs not in (None, -1) and trained >= now.trainer.max_epochs:
        _check_unfinished(run, trained)
    shown = [
        f"{name} {new[name]} (was {old.get(name)})"
        for name in changed
        if not name.startswith(_NOT_SHOWN)
    ]
    if shown:
        rank_zero_warn(f"resuming with other settings than before: {', '.join(shown)}")


def _keep(run: Path | None, before: Namespace, now: Namespace) -> None:
    """Stay with the source that was chosen, the run's folder and what a finder found."""
    if now.data.init_args.source == "auto":
        now.data.init_args.source = before.data.init_args.source
    for logger in as_list(now.trainer.logger):
        if run and isinstance(logger, Namespace) and "TensorBoard" in logger.class_path:
            logger.init_args.version = run.name  # write on into the same folder
    callbacks = as_list(now.trainer.callbacks)
    kept = [each for each in callbacks if not each.class_path.endswith(_FINDERS)]
    now.trainer.callbacks = kept or None


def as_list(value: Any) -> list[Any]:
    """Return what Lightning takes as one object or a list of them."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _check_unfinished(run: Path, trained: int) -> None:
    """Raise `UserError` if a run that has trained all its epochs has also been tested."""
    results = run / "results.json"
    reported = json.loads(results.read_text())["epochs"] if results.is_file() else 0
    if reported >= trained:
        raise UserError(
            f"the run {run} has finished: to train it further, give more epochs, for example "
            f"--max_epochs {trained + 2}"
        )
