"""`--help`: this program's own flags. `--help all` is the parser's page, with Lightning's too."""

import inspect
from collections.abc import Mapping

from docstring_parser import parse
from rich.console import Console
from rich.table import Table

from lit_imdb.arguments import COMMANDS, WITHOUT_TRAINER
from lit_imdb.errors import program

RUN_FLAGS = {
    "--ckpt_path": "resume or evaluate: `best`, `last` or a file",
    "--config FILE": "settings from a YAML file; flags win",
    "--print_config": "print all settings as YAML and stop",
    "--seed_everything": "of weights, batches and dropout",
    "--max_epochs": "epochs to train",
    "--accelerator, --devices": "cpu, gpu or auto, and how many",
    "--strategy, --precision": "see docs/scaling.md",
    "--fast_dev_run": "try every part on a few batches and keep nothing",
    "--model, --data CLASS": "of your own: see docs/extending.md",
    "--optimizer, --lr_scheduler": "torch's, such as AdamW and OneCycleLR",
    "--trainer.default_root_dir": "the folder in which logs/ is written",
    "--report": "write report.html and TensorBoard's plots",
    "--checkpoint_every_n_steps": "write last.ckpt this often in an epoch",
}


def print_overview() -> None:
    """Print the page of the program: its commands."""
    print(f"usage: {program()} [--version] [COMMAND] [--FLAG VALUE ...]")
    print("\nIMDB sentiment with a recurrent network, unrolled by hand.\n")
    _print_rows({**COMMANDS, **WITHOUT_TRAINER})
    print(f"\nEach has its own --help, the default command `{program()} fit --help`.")


def print_page(command: str) -> None:
    """Print the page of fit, validate or test: own flags, then the names of Lightning's."""
    from pytorch_lightning import Trainer

    from lit_imdb.data.datamodule import ImdbDataModule
    from lit_imdb.model.module import LitSentiment
    from lit_imdb.model.network import SentimentRNN

    model = _parameters("model", LitSentiment) | _parameters("model", SentimentRNN)
    del model["--model.vocab_size"]  # follows the data's
    print(f"usage: {program()} {command} [--FLAG VALUE ...]\n{COMMANDS[command]}")
    groups = {"run": RUN_FLAGS, "model": model, "data": _parameters("data", ImdbDataModule)}
    for name, flags in groups.items():
        print(f"{name}:")
        _print_rows(flags)
    print("Lightning's Trainer, --trainer.NAME, described by --help all:")
    _print_rows({"": ", ".join(inspect.signature(Trainer).parameters)})


def _parameters(group: str, cls: type) -> dict[str, str]:
    """Return the flag of each parameter of a class, with its description and default."""
    described = {p.arg_name: p.description for p in parse(cls.__doc__ or "").params}
    rows = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            text = " ".join((described.get(name) or "").split()).partition(". ")[0].rstrip(".")
            default = "" if parameter.default is None else f" [{parameter.default}]"
            rows[f"--{group}.{name}"] = text + default
    return rows


def _print_rows(rows: Mapping[str, str]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    for row in rows.items():
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
