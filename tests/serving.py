"""A server in a process of its own, for the tests of the endpoint and of the page."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT


class Server(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int


@contextmanager
def serving(checkpoint: Path, *flags: str) -> Iterator[Server]:
    """Runs `python train.py serve` on a free port until the block ends."""
    script = str(ROOT / "train.py")
    process = subprocess.Popen(
        [sys.executable, script, "serve", "--port", "0", "--ckpt_path", str(checkpoint), *flags],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first = process.stdout.readline()
        assert first.startswith("http://127.0.0.1:"), first
        yield Server(process, int(first.split()[0].rsplit(":", 1)[1]))
    finally:
        process.kill()
        process.communicate()
