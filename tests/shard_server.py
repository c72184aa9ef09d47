"""A local web server. It serves a folder, with or without byte ranges, and fails when a test asks it to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """What is served.

    Args:
        ranges: answer a request for a range with that range, not with the whole file.
        broken: the next so many answers with a file of the kind `breaks` end after half of what they announce.
        busy: the next so many answers are HTTP 503.
        answers: after so many answers, a request is accepted and never answered; None: all are.
        sent: the path of each request and the first byte that was asked for.
    """

    folder: Path
    ranges: bool = True
    broken: int = 0
    breaks: str = ".tar"
    busy: int = 0
    answers: int | None = None
    sent: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def shards(self) -> list[str]:
        """Return the shards that were asked for, each once."""
        return sorted({name for name, _ in self.sent if name.endswith(".tar")})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *args: object) -> None:
        self.site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name, wanted = self.path.rpartition("/")[2], self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.site.ranges else 0
        self.site.sent.append((name, start))
        if self.site.answers is not None:
            self.site.answers -= 1
            if self.site.answers < 0:
                self.site.over.wait()
                self.close_connection = True
                return
        if self.site.busy:
            self.site.busy -= 1
            self.send_error(503)
            return
        path = self.site.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.site.broken and name.endswith(self.site.breaks):
            self.site.broken -= 1
            content, self.close_connection = content[: len(content) // 2], True
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """Serve a folder until the block ends."""
    site = Site(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, site))
    site.url = f"http://127.0.0.1:{server.server_port}/set"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
