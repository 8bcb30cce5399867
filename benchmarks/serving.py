"""Measure `python train.py serve` over loopback and print a table.

python -m benchmarks.serving [--ckpt_path FILE] [--seconds 5]
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles

from benchmarks.timing import ROOT, memory_mb, start

REVIEW = " ".join(["the film was lovely and great but the plot was dull and far too long"] * 7)
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


async def clients(port: int, count: int, explain: bool, seconds: int) -> str:
    """Rate, percentiles and statuses of clients that each ask one request after the other."""
    body = json.dumps({"text": REVIEW, "explain": explain}).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    times, statuses = [], Counter[int]()
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            started = time.perf_counter()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split()[0]))
            times.append(1e3 * (time.perf_counter() - started))
            statuses[int(head.split()[1])] += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(count)))
    percentiles = quantiles(times, n=100)
    p50, p99 = percentiles[49], percentiles[98]
    return f"{len(times) / seconds:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {dict(statuses)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--ckpt_path", default="best")
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    options = parser.parse_args()
    serve = [sys.executable, str(ROOT / "train.py"), "serve", "--port", "0"]
    server = start([*serve, "--ckpt_path", options.ckpt_path], Path.cwd())
    try:
        port = int(server.stdout.readline().split()[0].rsplit(":", 1)[1])
        for count, explain in ((1, False), (1, True), (32, False), (32, True), (128, False)):
            found = asyncio.run(clients(port, count, explain, options.seconds))
            memory = f"memory {memory_mb(server.pid, 'VmRSS'):.0f} MB"
            print(f"| {count} clients{', explained' * explain} | {found}, {memory} |", flush=True)
    finally:
        server.kill()


if __name__ == "__main__":
    main()
