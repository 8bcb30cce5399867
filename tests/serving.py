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
    first_line: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def serving(checkpoint: Path) -> Iterator[Server]:
    """Runs `python train.py serve` on a free port until the block ends."""
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "train.py"), "serve"),
            *("--port", "0", "--ckpt_path", str(checkpoint)),
        ],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("http://127.0.0.1:"), first
        yield Server(process, int(first.split()[0].rsplit(":", 1)[1]), first)
    finally:
        process.kill()
        process.communicate()
