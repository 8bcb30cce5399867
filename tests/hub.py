"""A stand-in for the Hugging Face Hub on 127.0.0.1 that serves `stanfordnlp/imdb`."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY = "datasets/stanfordnlp/imdb"
SHA = "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
CARD = b"""---
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: train.parquet
  - split: test
    path: test.parquet
---
"""


def pages_of(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return what the Hub has at each address."""
    siblings = [{"rfilename": name} for name in files]
    info = {"_id": "1", "id": "stanfordnlp/imdb", "sha": SHA, "siblings": siblings, "tags": []}
    info |= {"private": False, "downloads": 0, "likes": 0}
    file = {"type": "file", "oid": "0" * 40}
    tree = [{**file, "path": name, "size": len(body)} for name, body in files.items()]
    api = {"": info, f"/revision/{SHA}": info, f"/tree/{SHA}": tree}
    pages = {f"/api/{REPOSITORY}{end}": json.dumps(page).encode() for end, page in api.items()}
    for revision in ("main", SHA):
        pages |= {f"/{REPOSITORY}/resolve/{revision}/{name}": files[name] for name in files}
    return pages


@contextmanager
def hub_with(files: dict[str, bytes]) -> Iterator[str]:
    """The address of a Hub that answers; gone afterwards."""
    pages = pages_of({"README.md": CARD, **files})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = pages.get(self.path.partition("?")[0], b"")
            self.send_response(200 if body else 404)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", SHA)
            if not body:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def unreachable_hub(listens: bool) -> Iterator[str]:
    """The address of a Hub that accepts connections and never answers, or refuses them."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
