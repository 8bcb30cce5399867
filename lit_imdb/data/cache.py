"""Folders that are written once, whole or not at all, and checked each time they are opened."""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from lit_imdb.errors import UserError

_MANIFEST = "manifest.json"


def default_cache_dir() -> Path:
    """`~/.cache/lit-imdb`, or where XDG_CACHE_HOME says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lit-imdb")


def folder_of(root: Path, key: Any) -> Path:
    """The folder of `key`, any JSON value: it must name everything that changes the content."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return root / digest[:20]


def is_complete(folder: Path) -> bool:
    """Whether a build has finished here. Says nothing of damage since: `damage_in` does."""
    return (folder / _MANIFEST).is_file()


def open_or_build(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, built first unless it is there and undamaged.

    `build` writes into an empty folder, which gets its place and name only when complete, so that
    a killed build leaves nothing that looks finished. Of several processes one builds, the others
    wait.

    Raises:
        UserError: The cache cannot be written.
    """
    if is_complete(folder) and damage_in(folder) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            _build_locked(folder, build)
    except OSError as error:
        raise UserError(
            f"cannot write the cache {folder.parent} ({error.strerror or error}): "
            "free some space or choose another place with --data.cache_dir DIR"
        ) from error
    return folder


def _build_locked(folder: Path, build: Callable[[Path], None]) -> None:
    if folder.exists():
        damage = damage_in(folder)
        if damage is None:
            return  # another process built it while this one waited
        warnings.warn(f"the cache is damaged ({damage}): rebuilding it", stacklevel=4)
        shutil.rmtree(folder)
    for left in folder.parent.glob(f"{folder.name}.tmp-*"):
        shutil.rmtree(left)  # by a build that was killed; the lock says that none is running
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        build(temporary)
        sums = {file.name: _checksum(file) for file in sorted(temporary.iterdir())}
        (temporary / _MANIFEST).write_text(json.dumps(sums))
        for file in temporary.iterdir():
            _sync(file)
        temporary.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def damage_in(folder: Path) -> str | None:
    """What is wrong with a cache folder, naming the file; None where all is well."""
    try:
        sums = json.loads((folder / _MANIFEST).read_text())
        there = {file.name for file in folder.iterdir()} - {_MANIFEST}
        if sums.keys() != there:  # before any is opened: a name could lead elsewhere
            return f"{folder}: other files than were written"
        for name, expected in sums.items():
            if _checksum(folder / name) != expected:
                return f"{folder / name} is not what was written"
    except (OSError, ValueError, AttributeError) as error:
        return f"{folder / _MANIFEST}: {error}"
    return None


def _checksum(file: Path) -> int:
    total = 0
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            total = zlib.crc32(block, total)
    return total


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
