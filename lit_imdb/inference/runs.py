"""`python train.py runs`: all runs side by side."""

from json import dumps, loads
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lit_imdb.errors import UserError


def runs(folder: str = "logs", json: bool = False) -> None:
    """List all runs: when, with which settings and how well. The best in validation has a star.

    Args:
        folder: Where to search.
        json: Print a JSON list for programs.

    Raises:
        UserError: There is no run in the folder.
    """
    # of a link, which leads to the folder of another logger, `rglob` finds only what is named
    names = ("config.yaml", "*/config.yaml", "results.json", "*/results.json")
    files = [file for name in names for file in Path(folder).rglob(name)]
    folders = {file.parent.resolve(): file.parent for file in files}
    found = sorted(map(_read, folders.values()), key=lambda run: (run["date"] or "", run["run"]))
    if not found:
        raise UserError(f"no run in {folder}: train one, or name another --folder")
    best = max(run["val_acc"] or 0 for run in found)
    for run in found:
        run["best"] = run["val_acc"] == best
    if json:
        print(dumps(found, indent=2))
        return
    table = Table("run", "date", "differs from the default", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    table.add_column("val", justify="right", no_wrap=True)
    table.add_column("test", justify="right", no_wrap=True)
    for run in found:
        changed = [
            f"{name.removesuffix('.class_path').rpartition('.')[2]}\N{NO-BREAK SPACE}{value}"
            for name, value in run["changed"].items()
        ]
        if run["test_acc"] is None:
            changed.append("(not finished)")
        val = _percent(run["val_acc"]) + (" *" if run["best"] else "  ")
        when = (run["date"] or "")[5:16]
        table.add_row(run["run"], when, ", ".join(changed), val, _percent(run["test_acc"]))
    Console().print(table, markup=False)


def _read(folder: Path) -> dict[str, Any]:
    """Return what is shown of a run; one that is not finished has no results."""
    try:
        results = loads((folder / "results.json").read_text())
    except (OSError, ValueError):
        results = {}
    shown = {name: results.get(name) for name in ("date", "val_acc", "test_acc", "git_commit")}
    return {"run": str(folder), **shown, "changed": results.get("changed", {})}


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.2%}"
