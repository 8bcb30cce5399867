"""The floors of the house: imports go down only, and nothing private of other libraries is used."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "lit_imdb"
# from the ground up; what stands on one floor may import each other, report and inference may not
FLOORS = [
    {"clock", "errors", "files", "interrupts"},
    {"data"},
    {"model"},
    {"training"},
    {"report", "inference"},
    {"arguments", "help", "messages", "resumption", "settings", "cli", "main", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imports_of(file: Path) -> Iterator[str]:
    """Each imported name, with its module in front."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from (module + alias.name for alias in node.names)


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: file.stem)
def test_imports_go_down_and_take_nothing_private_from_other_libraries(file: Path) -> None:
    floor = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports_of(file):
        library, *parts = name.split(".")
        if library == "lit_imdb":
            below = parts[0]
            allowed = LEVEL[below] < LEVEL[floor] or below == floor or floor in FLOORS[-1]
            assert allowed, f"{file}: {floor} imports {name}"
        elif library != "__future__":
            assert "._" not in f".{name}", f"{file}: {name}"
