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
CARD = """---
dataset_info:
  config_name: plain_text
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: plain_text/train-*
  - split: test
    path: plain_text/test-*
  - split: unsupervised
    path: plain_text/unsupervised-*
  default: true
---
"""


class HubStandIn:
    """What it serves, and what it was asked.

    Args:
        files: The repository's files by path.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {"README.md": CARD.encode(), **files}
        self.requests: list[str] = []
        self.address = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        api, resolve = f"/api/datasets/{REPOSITORY}", f"/datasets/{REPOSITORY}/resolve/"
        if path.startswith(resolve):
            name = path.removeprefix(resolve).split("/", 1)[1]
            if name not in self.files:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            body = self.files[name]
            etag = hashlib.sha256(body).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": SHA}, body
        if path in (api, f"{api}/revision/{SHA}", f"{api}/revision/main"):
            siblings = [{"rfilename": name} for name in self.files]
            info = {"_id": "1", "id": REPOSITORY, "sha": SHA, "siblings": siblings, "tags": []}
            return self._json({**info, "private": False, "downloads": 0, "likes": 0})
        if path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            entries: list[dict[str, Any]] = []
            if not folder:
                entries.append({"type": "directory", "oid": "0" * 40, "path": "plain_text"})
            for name, body in self.files.items():
                if str(Path(name).parent) == (folder or "."):
                    oid = hashlib.sha1(body).hexdigest()
                    entries.append({"type": "file", "oid": oid, "size": len(body), "path": name})
            return self._json(entries)
        return 404, {"X-Error-Code": "EntryNotFound"}, b""

    @staticmethod
    def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def hub_with(files: dict[str, bytes]) -> Iterator[HubStandIn]:
    """A Hub that answers; gone afterwards."""
    hub = HubStandIn(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            status, headers, body = hub.answer(path)
            if "Range" in self.headers and status == 200:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                end = int(last) + 1 if last else len(body)
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
                status, body = 206, body[int(first) : end]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Nothing: pytest shows the list of requests where a test fails."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent_hub() -> Iterator[str]:
    """The address of a Hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_address() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"
