"""`python train.py serve`: a page and a JSON endpoint for a trained model."""

import socket
import sys

from jsonargparse.typing import PositiveInt

from lit_imdb.errors import UserError, as_user_error
from lit_imdb.inference.classifier import load

_POLICY = (  # what the page may load and do: its own style and script, and ask this server
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def serve(
    ckpt_path: str = "best",
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    timeout: PositiveInt = 10,
    max_connections: PositiveInt = 900,
) -> None:
    """Serve a page to type reviews into, and POST /predict for programs.

    No text is logged or kept. There are no accounts: with another --host than this machine's own,
    whoever reaches the port can use it.

    Args:
        ckpt_path: `best`, the newest there is, `last` of the newest run, or a file.
        host: The address to listen on; 127.0.0.1 can be reached from this machine alone.
        port: The port to listen on; 0 takes a free one.
        device: Where to compute: cpu, cuda, cuda:1, or auto for a GPU where there is one.
        timeout: Seconds that a request may take to come in, and a connection may be idle.
        max_connections: Connections at a time; those beyond are answered with 503.

    Raises:
        UserError: No such checkpoint or device, the port is in use, or a package is missing.
    """
    try:
        import uvicorn

        from lit_imdb.inference.app import make_app
        from lit_imdb.inference.protocol import LimitedProtocol
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install starlette uvicorn") from error
    classifier = load(ckpt_path, device)
    classifier.predict("film")  # compiles, or loads what is compiled: not while a client waits
    classifier.explain("film")
    # A page elsewhere may point its own name at this machine; only these names are answered.
    names = ["127.0.0.1", "localhost"] if host in ("127.0.0.1", "localhost") else ["*"]
    advice = "choose another with --port, or --port 0 for any that is free"
    with as_user_error(f"cannot listen on {host}:{port}", OSError, OverflowError, advice=advice):
        listener = socket.create_server((host, port))
    # Connections inherit it; asyncio sets it on its own sockets only. Without it an answer waits
    # for the client's acknowledgement of its header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"http://{host}:{listener.getsockname()[1]} (Ctrl-C stops)", flush=True)
    print(classifier.origin, file=sys.stderr)
    config = uvicorn.Config(
        make_app(classifier, names),
        http=LimitedProtocol,
        timeout_keep_alive=timeout,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=3,
        access_log=False,
        log_level="critical",  # neither requests nor errors, which could quote a review
        server_header=False,
        headers=[
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", _POLICY),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ],
    )
    uvicorn.Server(config).run(sockets=[listener])
