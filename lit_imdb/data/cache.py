"""Folders that are written once, whole or not at all, and checked each time they are opened."""

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from lit_imdb.errors import as_user_error
from lit_imdb.files import whole_folder

_MANIFEST = "manifest.json"


def default_cache_dir() -> Path:
    """Return `~/.cache/lit-imdb`, or its place below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lit-imdb")


def folder_of(root: Path, key: Any) -> Path:
    """Return the folder of `key`, a JSON value that names everything that changes the content."""
    return root / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]


def build_once(folder: Path, build: Callable[[Path], None]) -> None:
    """Have `build` write the content of `folder`, unless it is there and undamaged.

    Of several processes one builds and the others wait. A killed build leaves nothing that looks
    finished.

    Raises:
        UserError: The cache cannot be written.
    """
    if not damage_in(folder):
        return
    advice = "free some space or choose another place with --data.cache_dir DIR"
    with as_user_error(f"cannot write the cache {folder.parent}", OSError, advice=advice):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            damage = damage_in(folder)
            if not damage:
                return  # another process built it while this one waited
            if folder.exists():
                warnings.warn(f"the cache is damaged ({damage}): rebuilding it", stacklevel=3)
                shutil.rmtree(folder)
            for left in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(left)  # by a build that was killed: the lock rules out a running one
            with whole_folder(folder) as target:
                build(target)
                (target / _MANIFEST).write_text(json.dumps(_checksums(target)))


def damage_in(folder: Path) -> str:
    """Return what is wrong with a cache folder; nothing if it is whole."""
    try:
        expected = json.loads((folder / _MANIFEST).read_text())
        return "" if _checksums(folder) == expected else f"{folder}: not what was written"
    except (OSError, ValueError) as error:
        return f"{folder}: {error}"


def _checksums(folder: Path) -> dict[str, int]:
    sums: dict[str, int] = {}
    for file in folder.iterdir():
        if file.name != _MANIFEST:
            with file.open("rb") as stream:
                sums[file.name] = 0
                while block := stream.read(2**20):
                    sums[file.name] = zlib.crc32(block, sums[file.name])
    return sums
