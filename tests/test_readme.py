"""The commands and examples in the README and the docs do what the pages say."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Output, Trained, make_reviews, run_script, write_csv

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_in(page: Path, language: str = "[a-z]*") -> list[str]:
    pattern = f"^```(?:{language})\n(.*?)^```"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


def commands_in(page: Path) -> list[str]:
    """The commands of a page's code blocks, lines ending in a backslash joined."""
    lines = "\n".join(blocks_in(page)).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|", line)]
    return [part for part in parts if part.startswith("python train.py")]


COMMANDS = sorted({command for page in PAGES for command in commands_in(page)})
PYTHON = [block for page in PAGES for block in blocks_in(page, "python") if "lit_imdb" in block]
RECIPE = next(block for block in PYTHON if "num_proc" in block)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_is_understood(
    command: str,
    run: Callable[..., Output],
    trained: Trained,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lit_imdb.cli import CLI
    from lit_imdb.inference import export, predict, serve

    for module, name in ((export, "export"), (predict, "predict"), (serve, "serve")):
        only_parsed = functools.wraps(getattr(module, name))(lambda **_: None)
        monkeypatch.setattr(module, name, only_parsed)
    for step in ("before_instantiate_classes", "instantiate_classes", "after_instantiate_classes"):
        monkeypatch.setattr(CLI, step, lambda self: None)
    monkeypatch.setattr(CLI, "_run_subcommand", lambda self, command: None)
    shutil.copytree(trained.folder / "logs", workspace / "logs")
    (workspace / "logs/imdb/version_0/results.json").unlink()  # as a run that was cut off
    (workspace / "configs").symlink_to(ROOT / "configs")
    args = shlex.split(command, comments=True)[2:]
    for place, argument in enumerate(args[1:], 1):
        if args[place - 1] == "--ckpt_path" and argument not in ("best", "last"):
            args[place] = str(trained.run / "checkpoints/best.ckpt")
    done = run(*args)
    assert done.status == 0, done.err


@pytest.mark.slow
def test_the_recipe_for_many_machines_labels_every_review_once(
    trained: Trained, workspace: Path
) -> None:
    import pyarrow.parquet as pq

    import lit_imdb

    reviews = make_reviews(20)
    write_csv(workspace / "reviews.csv", reviews)
    (workspace / "logs").symlink_to(trained.folder / "logs")
    (workspace / "label.py").write_text(RECIPE.replace("num_proc=8", "num_proc=2"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(trained.cache)}
    for number in "01":
        command = [sys.executable, "label.py", number, "2"]
        subprocess.run(command, env=environment, check=True, timeout=300, capture_output=True)
    rows = [row for n in "01" for row in pq.read_table(f"answers-{n}.parquet").to_pylist()]
    answers = lit_imdb.load().predict([text for text, _ in reviews])
    assert [row["text"] for row in rows] == [text for text, _ in reviews]
    assert [row["label"] for row in rows] == [answer.label for answer in answers]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model of the docs was trained: seed 1 on the package's reviews."""
    folder = tmp_path_factory.mktemp("packaged")
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--data.source", "package"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
        check=True,
        timeout=1200,
        capture_output=True,
    )
    return folder


@pytest.mark.slow
def test_the_texts_in_the_docs_get_the_labels_that_the_page_shows(
    packaged: Path, run: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(packaged)
    shown = [command for command in COMMANDS if re.search("--text .*# (pos|neg)", command)]
    assert shown
    for command in shown:
        done = run(*shlex.split(command, comments=True)[2:])
        assert done.out.split()[0] == command.split("# ")[1].split()[0], command


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in PYTHON if block != RECIPE])
def test_python_in_the_docs_prints_what_the_page_shows(block: str, packaged: Path) -> None:
    done = run_script(block, cwd=packaged)
    assert done.status == 0, done.err
    prints = [line for line in block.splitlines() if line.startswith("print(")]
    # a block without print is a training, which prints what it likes
    for line, printed in zip(prints, done.out.splitlines(), strict=bool(prints)):
        if "  # " in line:
            assert printed.split()[0] == line.split("  # ")[1].split()[0]
