"""What TensorBoard shows of each run: training and validation first, and its HPARAMS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.core.saving import save_hparams_to_yaml
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb

from lit_imdb.training.checkpoint import run_of


class RunLogger(TensorBoardLogger):
    """Names scalars so that train and val come first: TensorBoard sorts them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        named = {name.replace("test/", "verdicts/test_"): each for name, each in metrics.items()}
        named.pop("epoch", None)  # Lightning's, with every line: it would be the first chart
        super().log_metrics(named, step)


def run_logger(
    logs: Path, ckpt_path: Path | None, checkpoint: Mapping[str, Any] | None
) -> RunLogger:
    """Return the logger of a new run folder in `logs`, or of the one that holds the checkpoint."""
    version, step = None, None
    if ckpt_path and checkpoint and (run := run_of(ckpt_path)):
        # the points after the checkpoint will be logged again
        logs, version, step = run.parent, run.name, checkpoint["global_step"]
    logger = RunLogger(logs.parent, logs.name, version, default_hp_metric=False, purge_step=step)
    logger.version  # noqa: B018 - finds a free number now, the same for processes that it spawns
    return logger


def write_hparams(trainer: Any, module: Any) -> None:
    """Write `hparams.yaml` again when training starts.

    Lightning writes it once, before a learning rate finder or other settings of a resumed run.
    """
    if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
        hparams = {**module.hparams, **trainer.datamodule.hparams}
        save_hparams_to_yaml(Path(trainer.logger.log_dir, "hparams.yaml"), hparams)


def log_results(
    logger: TensorBoardLogger,
    trainer: Any,
    results: Mapping[str, Any],
    pictures: Mapping[str, bytes],
) -> None:
    """Log a run's settings, the metrics of its kept epoch, and PNG pictures by their tags.

    TensorBoard sorts settings by name and shows the first five: numbers in front keep this order.
    """
    changed = [f"{n.rpartition('.')[2]} {value}" for n, value in results["changed"].items()]
    settings: dict[str, Any] = {
        "lr": None,
        "changed": ", ".join(changed),
        "precision": trainer.precision,
        "seed": results["seed"],
        "max_epochs": trainer.max_epochs,
        **results["config"]["fit"]["model"],
        **results["config"]["fit"]["data"],
    }
    plain = {name: v for name, v in settings.items() if isinstance(v, str | int | float)}
    names = {name: f"{number:02} {name}" for number, name in enumerate(plain)}
    metrics = {f"val/kept_{name}": results[f"val_{name}"] for name in ("acc", "loss")}
    metrics["verdicts/kept_loss"] = results["test_loss"]
    metrics = {name: value for name, value in metrics.items() if value is not None}
    if not metrics:
        return  # neither validated nor tested: there is nothing to show
    columns = [HParam(long, display_name=name) for name, long in names.items()]
    shown = [Metric(name) for name in ("val/kept_acc", "verdicts/test_acc", "val/kept_loss")]
    logger.log_metrics(metrics, trainer.global_step)
    add = logger.experiment.file_writer.add_summary
    add(hparams_config_pb(columns, shown))
    add(hparams_pb({names[name]: value for name, value in plain.items()}))
    for tag, png in pictures.items():  # as they are: `add_image` would encode them again
        width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        image = Summary.Image(encoded_image_string=png, width=width, height=height)
        add(Summary(value=[Summary.Value(tag=tag, image=image)]), trainer.global_step)
