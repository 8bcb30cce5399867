"""What a statement does in a process of its own, whose memory stays small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# ru_maxrss would not do: it starts from what this process held when it forked.
linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
LIMIT = 600 * 2**20  # importing the readers takes near half of it, most of it torch


def in_little_memory(statement: str, may_succeed: bool = False) -> str:
    """Return the message of the `UserError` that `statement` raises with less memory than LIMIT."""
    code = f"""
from pathlib import Path
{"from lit_imdb.training.checkpoint import read_checkpoint" if "checkpoint" in statement else ""}
from lit_imdb.data.source import open_source
from lit_imdb.data.tables import read_rows
from lit_imdb.errors import UserError
message = "no error"
try:
    {statement}
except UserError as error:
    message = str(error)
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak[0].split()[1], message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    peak, message = done.stdout.split(" ", 1)
    assert int(peak) * 1024 < LIMIT, f"{int(peak) // 1024} MB"
    assert may_succeed or not message.startswith("no error"), message
    return message
