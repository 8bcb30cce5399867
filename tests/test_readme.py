"""Every `python train.py` command in the README and the docs is one that the program takes."""

import functools
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Output, Trained

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_in(page: Path) -> list[str]:
    """The commands of a page's code blocks, lines ending in a backslash joined."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|", line)]
    return [part for part in parts if part.startswith("python train.py")]


COMMANDS = sorted({command for page in PAGES for command in commands_in(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_is_understood(
    command: str,
    run: Callable[..., Output],
    trained: Trained,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lit_imdb.cli import CLI
    from lit_imdb.inference import export as export_command
    from lit_imdb.inference import predict as predict_command
    from lit_imdb.inference import serve as serve_command

    for module, name in (
        (predict_command, "predict"),
        (export_command, "export"),
        (serve_command, "serve"),
    ):
        only_parsed = functools.wraps(getattr(module, name))(lambda **_: None)
        monkeypatch.setattr(module, name, only_parsed)
    for step in ("before_instantiate_classes", "instantiate_classes", "after_instantiate_classes"):
        monkeypatch.setattr(CLI, step, lambda self: None)
    monkeypatch.setattr(CLI, "_run_subcommand", lambda self, command: None)
    shutil.copytree(trained.folder / "logs", workspace / "logs")
    (workspace / "configs").symlink_to(ROOT / "configs")
    args = shlex.split(command, comments=True)[2:]
    for place, argument in enumerate(args[1:], 1):
        if args[place - 1] == "--ckpt_path" and argument not in ("best", "last"):
            args[place] = str(trained.run / "checkpoints/best.ckpt")
    done = run(*args)
    assert done.status == 0, done.err
