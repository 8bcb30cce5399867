"""A stand-in for the Hugging Face Hub on 127.0.0.1 that serves `stanfordnlp/imdb`."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = "stanfordnlp/imdb"
SHA = "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"
CARD = b"""---
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: plain_text/train-*
  - split: test
    path: plain_text/test-*
  default: true
---
"""


def answer(files: dict[str, bytes], path: str) -> tuple[dict[str, str], bytes] | None:
    """Return headers and body, or None for what is not there."""
    api, resolve = f"/api/datasets/{REPOSITORY}", f"/datasets/{REPOSITORY}/resolve/"
    if path.startswith(resolve):
        name = path.removeprefix(resolve).split("/", 1)[1]
        if name not in files:
            return None
        etag = hashlib.sha256(files[name]).hexdigest()
        return {"ETag": f'"{etag}"', "X-Repo-Commit": SHA}, files[name]
    content: Any
    if path in (api, f"{api}/revision/{SHA}", f"{api}/revision/main"):
        siblings = [{"rfilename": name} for name in files]
        content = {"_id": "1", "id": REPOSITORY, "sha": SHA, "siblings": siblings, "tags": []}
        content |= {"private": False, "downloads": 0, "likes": 0}
    elif path.startswith(f"{api}/tree/"):
        folder = path.removeprefix(f"{api}/tree/").partition("/")[2] or "."
        content = [
            {"type": "file", "oid": "0" * 40, "size": len(body), "path": name}
            for name, body in files.items()
            if str(Path(name).parent) == folder
        ]
        if folder == ".":
            content.append({"type": "directory", "oid": "0" * 40, "path": "plain_text"})
    else:
        return None
    return {"Content-Type": "application/json"}, json.dumps(content).encode()


@contextmanager
def hub_with(files: dict[str, bytes]) -> Iterator[str]:
    """The address of a Hub that answers; gone afterwards."""
    files = {"README.md": CARD, **files}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = answer(files, unquote(urlsplit(self.path).path))
            headers, body = found or ({"X-Error-Code": "EntryNotFound"}, b"")
            self.send_response(200 if found else 404)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
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
def silent_hub() -> Iterator[str]:
    """The address of a Hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_address() -> str:
    """An address where nobody listens."""
    with silent_hub() as address:
        return address
