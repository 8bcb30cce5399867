"""What TensorBoard shows of each run: training and validation first, and its HPARAMS."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb


class RunLogger(TensorBoardLogger):
    """Names scalars so that train and val come first: TensorBoard sorts them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        named = {name.replace("test/", "verdicts/test_"): each for name, each in metrics.items()}
        named.pop("epoch", None)  # Lightning's, with every line: it would be the first chart
        super().log_metrics(named, step)


def log_hparams(logger: TensorBoardLogger, trainer: Any, results: Mapping[str, Any]) -> None:
    """Log a run's settings and the metrics of its kept epoch.

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
    metrics = {name: value for name, value in metrics.items() if value is not None}
    if not metrics:
        return  # neither validated nor tested: there is nothing to compare
    columns = [HParam(long, display_name=name) for name, long in names.items()]
    shown = [Metric(name) for name in ("val/kept_acc", "verdicts/test_acc", "val/kept_loss")]
    logger.log_metrics(metrics, trainer.global_step)
    add = logger.experiment.file_writer.add_summary
    add(hparams_config_pb(columns, shown))
    add(hparams_pb({names[name]: value for name, value in plain.items()}))
