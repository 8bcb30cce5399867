"""Commands, examples and the notebook in the README and the docs do what the pages say."""

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import ROOT, RUN, command, make_reviews, run_script, write_csv

import lit_imdb

NOTEBOOK = ROOT / "docs/tutorial.ipynb"
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
RECIPE = next(block for block in PYTHON if "num_proc" in block)  # a script of its own
PYTHON.remove(RECIPE)


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_docs_is_understood(
    line: str, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_imdb.cli import CLI
    from lit_imdb.inference import export, predict, serve

    for module, name in ((export, "export"), (predict, "predict"), (serve, "serve")):
        only_parsed = functools.wraps(getattr(module, name))(lambda **_: None)
        monkeypatch.setattr(module, name, only_parsed)
    for step in ("instantiate_classes", "after_instantiate_classes", "_run_subcommand"):
        monkeypatch.setattr(CLI, step, lambda *_: None)
    Path(RUN, "results.json").unlink()  # as a run that was cut off
    Path("configs").symlink_to(ROOT / "configs")
    line = re.sub(r"--ckpt_path (?!best\b|last\b)\S+", f"--ckpt_path {best}", line)
    done = command(*shlex.split(line, comments=True)[2:])
    assert done.status == 0, done.err


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_the_recipe_for_many_machines_labels_every_review_once(workspace: Path) -> None:
    reviews = make_reviews(20)
    write_csv(workspace / "reviews.csv", reviews)
    (workspace / "label.py").write_text(RECIPE.replace("num_proc=8", "num_proc=2"))
    both = """
import runpy
for number in "01":
    sys.argv = ["label.py", number, "2"]
    runpy.run_path("label.py", run_name="__main__")
"""
    done = run_script(both, workspace, PYTHONPATH=str(ROOT))
    assert done.status == 0, done.err
    answers = pandas.concat(pandas.read_parquet(f"answers-{number}.parquet") for number in "01")
    texts = [text for text, _ in reviews]
    assert answers["text"].tolist() == texts
    assert answers["label"].tolist() == [one.label for one in lit_imdb.load().predict(texts)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_texts_and_python_in_the_docs_get_the_answers_that_the_page_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # the model of the docs, but for two epochs after its best one
    done = command("--data.source", "package", "--max_epochs", "2", "--report", "false")
    assert done.status == 0, done
    shown = [line for line in COMMANDS if re.search("--text .*# (pos|neg)", line)]
    assert shown
    for line in shown:
        done = command(*shlex.split(line, comments=True)[2:])
        assert done.out.split()[0] == line.split("# ")[1].split()[0], line
    for block in PYTHON:
        exec(block, {})
        prints = re.findall(r"^print\(.*", block, re.MULTILINE)
        # a block without print is a training, which prints what it likes
        printed = capsys.readouterr().out.splitlines()
        for line, answer in zip(prints, printed, strict=bool(prints)):
            if "  # " in line:
                assert answer.split()[0] == line.split("  # ")[1].split()[0], line


def outputs(book: Any, kind: str) -> list[Any]:
    """The outputs of all cells that are of a stream (`stdout`, `stderr`) or a type of picture."""
    found = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [each for each in found if each.get("name") == kind or kind in each.get("data", {})]


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kept, ran = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    place = {"metadata": {"path": str(workspace)}}
    NotebookClient(ran, timeout=600, resources=place, coalesce_streams=True).execute()
    (told,) = outputs(ran, "stderr")
    assert told.text == "preparing the reviews (package), once\n"
    assert not outputs(kept, "stderr")
    for kind in ("stdout", "image/png"):
        assert len(outputs(ran, kind)) == len(outputs(kept, kind)) > 3
    assert "pos (positive: 9" in str(outputs(ran, "stdout"))
    assert NOTEBOOK.stat().st_size < 2**20
