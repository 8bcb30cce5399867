"""Folders that are written once, whole or not at all, and checked each time they are opened."""

import hashlib
import json
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


def build_once(root: Path, key: Any, build: Callable[[Path], None]) -> Path:
    """Return the folder of `key` below `root`; unless it is there and whole, `build` fills it.

    `key` is a JSON value that names everything that changes the content. Of several processes one
    builds and the others wait. A killed build leaves nothing that looks finished.

    Raises:
        UserError: The cache cannot be written.
    """
    folder = root / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    if is_whole(folder):
        return folder
    advice = "free some space or choose another place with --data.cache_dir DIR"
    with as_user_error(f"cannot write the cache {root}", OSError, advice=advice):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if is_whole(folder):
                return folder  # another process built it while this one waited
            if folder.exists():
                warnings.warn(f"the cache is damaged ({folder}): rebuilding it", stacklevel=2)
                shutil.rmtree(folder)
            for left in root.glob(f".{folder.name}-*"):
                shutil.rmtree(left)  # by a build that was killed: the lock rules out a running one
            with whole_folder(folder) as target:
                build(target)
                (target / _MANIFEST).write_text(json.dumps(_checksums(target)))
    return folder


def is_whole(folder: Path) -> bool:
    """Return whether a cache folder holds exactly what was written."""
    try:
        return bool(_checksums(folder) == json.loads((folder / _MANIFEST).read_text()))
    except (OSError, ValueError):
        return False


def _checksums(folder: Path) -> dict[str, int]:
    sums: dict[str, int] = {}
    for file in folder.iterdir():
        if file.name != _MANIFEST:
            with file.open("rb") as stream:
                sums[file.name] = 0
                while block := stream.read(2**20):
                    sums[file.name] = zlib.crc32(block, sums[file.name])
    return sums
