"""Serves a results folder as a page: `s3bench serve` shows progress, claims and the report, renewed as runs finish.

Everything happens when a browser asks: nothing is read or made while no page is open. The results folder is only read.
"""

import errno
import json
import re
import signal
import sys
import tempfile
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from s3bench import record
from s3bench.console import say
from s3bench.errors import UserError, one_line
from s3bench.record import decisions
from s3bench.report import status
from s3bench.report.analysis.replays import FOLDER
from s3bench.report.claims.decided import COLUMNS, cells
from s3bench.report.claims.judge import standings
from s3bench.report.maker import ReportMaker
from s3bench.report.page import TEMPLATES

ADDRESS = "127.0.0.1"
ALLOWED_HOSTS = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]+)?", re.IGNORECASE)
PAUSE = 1.0  # seconds between two looks at the records, at least
SHARE = 9  # times as long as a look takes: a large folder is read less often
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "frame-ancestors 'self'"  # beside the stricter one that the report has in itself
FILES = {
    "/": ("live.html", "text/html"),
    "/live.css": ("live.css", "text/css"),
    "/live.js": ("live.js", "text/javascript"),
}
NO_REPORT = b"<!doctype html><title>s3bench</title><p>There is no report yet."


def serve(results_dir: str, port: int) -> None:
    """Serve a results folder to browsers on this machine until Ctrl-C.

    Args:
        results_dir: the results folder; it may be empty yet.
        port: where to listen; 0 for any that is free.

    Raises:
        UserError: there is no such folder, or the port cannot be had.
    """
    if not Path(results_dir).is_dir():
        raise UserError(f"there is no results folder {results_dir}; s3bench sweep creates one")
    handlers = {n: signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory(prefix="s3bench-") as folder:
        maker = ReportMaker(results_dir, Path(folder))
        try:
            with _listening(port, Watched(results_dir, maker)) as server:
                say(f"{results_dir} is at http://{ADDRESS}:{server.server_port}/ until Ctrl-C")
                server.serve_forever()
        except KeyboardInterrupt:
            return
        finally:
            maker.stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _listening(port: int, watched: "Watched") -> "_Server":
    try:
        return _Server(port, watched)
    except OSError as error:
        why = "is in use, perhaps by another s3bench serve" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(f"port {port}: {why}; choose another with --port, or --port 0 for any that is free") from error


class Watched:
    """A results folder, and what was last seen in it.

    Args:
        results_dir: the results folder.
        maker: makes its report.
    """

    def __init__(self, results_dir: str, maker: ReportMaker) -> None:
        self._results_dir, self._folder, self.maker = results_dir, Path(results_dir), maker
        self._lock = threading.Lock()
        self._next = 0.0
        self._seen = b""
        self._entries = 0  # of the log that the claims were computed from
        self._claims: dict[str, Any] = {"rows": [], "error": ""}

    def as_json(self) -> bytes:
        """Return how far the folder is, looking anew if the last look was long enough ago."""
        with self._lock:
            began = time.monotonic()
            if began >= self._next:
                self._seen = json.dumps(self._look(), allow_nan=False).encode()
                now = time.monotonic()
                self._next = now + max(PAUSE, SHARE * (now - began))
            return self._seen

    def _look(self) -> dict[str, Any]:
        """Return what the page shows, all of it as texts, and renew the claims and the report if need be."""
        try:
            entries = decisions.read(self._folder)
        except UserError as error:
            entries, self._claims = [], {"rows": [], "error": one_line(error)}
        if len(entries) != self._entries:
            self._entries, self._claims = len(entries), self._judged()
        over = [_over(folder) for folder in (self._folder, self._folder / FOLDER)]
        if over[0]:
            self.maker.look((over, self._entries))
        maker = self.maker
        report = {
            "number": maker.number,
            "at_work": maker.is_at_work,
            "current": maker.is_current,
            "error": maker.error,
        }
        return {"results": self._results_dir, **self._progress(), "claims": self._claims, "report": report}

    def _progress(self) -> dict[str, Any]:
        try:
            seen = status.snapshot(self._folder)
        except UserError as error:
            return {"steps": 0, "horizon": 0, "lines": [f"waiting for runs: {one_line(error)}"], "rows": []}
        said = status.lines(seen, status.LISTED_BY_WATCH)
        return {"steps": seen["steps"], "horizon": seen["horizon"], "lines": said, "rows": status.table_rows(seen)}

    def _judged(self) -> dict[str, Any]:
        try:
            rows = [cells(standing) for standing in standings(self._folder)]
        except UserError as error:
            return {"rows": [], "error": one_line(error)}
        return {"rows": [list(COLUMNS), *rows] if rows else [], "error": ""}


def _over(folder: Path) -> list[tuple[Any, ...]]:
    """Return what tells the runs of a folder that are over from those of another time."""
    try:
        rows = record.load_rows(folder, [])
    except UserError:  # no record yet
        return []
    return [tuple(row[key] for key in ("run_id", "state", "seconds")) for row in rows if row["state"] in record.OVER]


class _Server(ThreadingHTTPServer):
    """Listens on this machine only."""

    def __init__(self, port: int, watched: Watched) -> None:
        self.watched = watched
        super().__init__((ADDRESS, port), _Handler)

    def server_bind(self) -> None:
        """Listen, without looking up a name for the address, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.socket.getsockname()[1]

    def handle_error(self, *_: Any) -> None:
        """Say what went wrong, unless the browser has left."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            say(f"s3bench: {one_line(error)}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for four fixed paths; no path of a request ever names a file."""

    server: _Server
    timeout = 30  # seconds for a request to arrive
    server_version, sys_version = "s3bench", ""
    error_content_type, error_message_format = "text/plain", "%(code)d %(message)s\n"

    def parse_request(self) -> bool:
        """Read a request; refuse one that writes, and one to another host, whose name was made to lead here."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not ALLOWED_HOSTS.fullmatch(hosts[0]):
            self.send_error(HTTPStatus.FORBIDDEN, "only requests to localhost are answered")
        elif self.command not in ("GET", "HEAD"):
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            return True
        return False

    def do_GET(self) -> None:
        """Answer a request."""
        path = self.path.partition("?")[0]
        if path in FILES:
            name, kind = FILES[path]
            self._answer((TEMPLATES / name).read_bytes(), kind)
        elif path == "/status.json":
            self._answer(self.server.watched.as_json(), "application/json")
        elif path == "/report.html":
            self._answer(self.server.watched.maker.page or NO_REPORT, "text/html", REPORT_POLICY)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET

    def _answer(self, content: bytes, kind: str, policy: str = POLICY) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Forbid every reply to be kept, to be guessed at, and to be used by other sites."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
