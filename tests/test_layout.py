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


def imports_of(file: Path) -> Iterator[tuple[str, str]]:
    """Each imported module with each name taken from it (empty for the module itself)."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_and_take_nothing_private_from_other_libraries(file: Path) -> None:
    floor = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module, name in imports_of(file):
        library, *parts = module.split(".")
        if library == "lit_imdb":
            assert parts, f"{file}: imports the package's own __init__"
            below = parts[0]
            allowed = LEVEL[below] < LEVEL[floor] or below == floor or floor in FLOORS[-1]
            assert allowed, f"{file}: {floor} imports {module} {name}"
        elif library != "__future__":
            private = [part for part in (library, *parts, name) if part.startswith("_")]
            assert not private, f"{file}: {module} {name}"
