"""`s3bench serve` as a browser and as others see it: a real process on a port of its own, with real records."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from s3bench import record
from s3bench.report.claims.registered import load_claims
from s3bench.report.maker import ReportMaker
from s3bench.report.serve import Watched, _Server
from tests.conftest import mistake, until
from tests.records import TARGETS, config, make
from tests.s3bench.report.claims.test_decided import LOSS, add_block


def contents(folder):
    """Return all files below a folder with their bytes and times."""
    return {
        file.relative_to(folder): (file.stat().st_mtime_ns, file.read_bytes() if file.is_file() else None)
        for file in folder.rglob("*")
    }


def ask(port, path="/", method="GET", **headers):
    """Send one request; return its status, headers and content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def status_of(port):
    return json.loads(ask(port, "/status.json")[2])


class Unmade:
    """A maker of reports that makes none."""

    page, number, is_at_work, is_current, error = None, 0, False, False, ""

    def look(self, state):
        self.state = state


@pytest.fixture
def serving(tmp_path):
    """Serve tmp_path / "r" from this process, without reports; yield the port."""
    (tmp_path / "r").mkdir()
    with _Server(0, Watched(str(tmp_path / "r"), Unmade())) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


class Served:
    """The command in a process of its own."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "s3bench.cli", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", self.line)[1])

    def end(self):
        """Press Ctrl-C; return the exit code and what else was printed."""
        self.process.send_signal(signal.SIGINT)
        rest = "".join(self.process.communicate(timeout=120))
        return self.process.returncode, rest


@pytest.fixture
def served():
    started = []

    def start(*arguments):
        started.append(Served(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def test_a_run_that_finishes_while_it_serves_appears_in_the_page_and_nothing_is_written(tmp_path, served):
    results = tmp_path / "r"
    make(results, "s3")
    server = served(results)
    assert server.line == f"{results} is at http://127.0.0.1:{server.port}/ until Ctrl-C\n"
    until(lambda: status_of(server.port)["report"]["number"] == 1)
    page = ask(server.port, "/report.html")[2].decode()
    assert "Content-Security-Policy" in page
    assert ">s3<" in page
    assert "adamw" not in page
    make(results, "adamw", spikes=[60])
    before = contents(results)
    until(lambda: status_of(server.port)["report"]["number"] == 2)
    assert ">adamw<" in ask(server.port, "/report.html")[2].decode()
    assert status_of(server.port)["report"]["current"]
    assert contents(results) == before
    assert server.end() == (0, "")


def test_a_report_that_is_being_made_ends_with_the_server(tmp_path, served):
    make(tmp_path / "r")
    server = served(tmp_path / "r")
    status_of(server.port)  # begins the report
    assert status_of(server.port)["report"]["at_work"]
    assert server.end() == (0, "")
    assert not [place for place in processes() if f"report\0{tmp_path / 'r'}" in place]


def processes():
    """Yield the command lines of all processes."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (place / "cmdline").read_bytes().decode(errors="replace")


def test_an_empty_folder_waits_for_runs_and_damaged_records_do_not_stop_it(tmp_path, serving):
    assert status_of(serving)["lines"][0].startswith("waiting for runs: ")
    folder = make(tmp_path / "r")
    make(tmp_path / "r", seed=1, state="failed")
    damaged = make(tmp_path / "r", seed=2)
    (damaged / "summary.json").write_text("{")
    until(lambda: status_of(serving)["rows"])
    seen = status_of(serving)
    assert seen["rows"][0][:3] == ["task", "optimizer", "finished"]
    assert seen["rows"][1][:3] == ["quadratic", "s3", "1"]
    assert (seen["steps"], seen["horizon"]) == (100, 200)
    assert [line for line in seen["lines"] if line.startswith("failed: ")]
    assert [line for line in seen["lines"] if line.startswith("damaged: ") and damaged.name in line]
    assert record.has_result(folder)


def test_a_report_that_cannot_be_made_says_why_and_the_last_page_stays(tmp_path):
    results = tmp_path / "r"
    folder = make(results)
    maker = ReportMaker(str(results), tmp_path)
    (folder / "steps.parquet").write_bytes(b"PAR1")
    until(lambda: maker.look(1) or maker.error)
    assert f"{folder.name} is damaged, in steps.parquet" in maker.error
    assert (maker.page, maker.number) == (None, 0)
    maker.look(2)
    assert not maker.is_at_work  # it is tried again later


def test_the_claims_of_a_decide_are_shown_with_their_intervals(tmp_path, monkeypatch, serving):
    file = tmp_path / "configs" / "claim" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(LOSS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (claim,) = load_claims(["mine"])
    add_block(tmp_path / "r", claim, 200, {"s3": 0.01, "adam": 0.02, "adamw": 0.04})
    until(lambda: status_of(serving)["claims"]["rows"])
    header, row = status_of(serving)["claims"]["rows"]
    assert header[:4] == ["claim", "effect", "interval", "blocks"]
    assert (row[0], row[1], row[3]) == ("mine", "0.5", "1")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_a_request_to_another_host_is_refused(serving, host):
    status, headers, content = ask(serving, "/status.json", Host=host)
    assert status == 403
    assert b"results" not in content
    assert headers["Cache-Control"] == "no-store"


def test_a_request_without_a_host_is_refused(serving):
    with socket.create_connection(("127.0.0.1", serving), timeout=60) as connection:
        connection.sendall(b"GET /status.json HTTP/1.0\r\n\r\n")
        assert b" 403 " in connection.recv(100)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9999"])
def test_a_tunnel_may_have_another_port(serving, host):
    assert ask(serving, "/status.json", Host=host)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "ODD"])
def test_only_get_and_head_are_answered(serving, method):
    assert ask(serving, "/status.json", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/live.html",
        "/report/index.html",
        "/r",
        "*",
    ],
)
def test_no_path_leads_to_a_file(serving, path):
    assert ask(serving, path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/live.js", "/live.css", "/status.json", "/report.html", "/?x=1"])
def test_every_reply_is_strict(serving, path):
    status, headers, content = ask(serving, path)
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert policy == "frame-ancestors 'self'" if path == "/report.html" else "default-src 'none'" in policy
    assert "unsafe" not in policy
    of_head = ask(serving, path, "HEAD")
    assert (of_head[0], of_head[1]["Content-Length"], of_head[2]) == (200, str(len(content)), b"")


def test_it_listens_on_this_machine_only(serving):
    with socket.socket() as other:
        other.bind(("127.0.0.2", serving))  # it could not be if all addresses were taken


def test_a_port_in_use_is_one_line_that_says_what_to_do(s3bench, serving):
    line = mistake(s3bench("serve", "r", "--port", str(serving)))
    assert f"port {serving}: is in use, perhaps by another s3bench serve; choose another with --port" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "there is no results folder none"),
        ([".", "--port", "65536"], "'65536' is not a port, an integer from 0 to 65535"),
        ([".", "--port", "-1"], "port"),
    ],
)
def test_a_mistake_is_one_line(s3bench, arguments, said):
    assert said in mistake(s3bench("serve", *arguments))


@pytest.fixture
def visit(browser):
    """Open the page that a port serves; at the end, assert that the console had no messages."""
    messages, contexts = [], []

    def open_page(port):
        contexts.append(browser.new_context())
        opened = contexts[-1].new_page()
        opened.set_default_timeout(120_000)
        opened.on("console", lambda message: messages.append(message.text))
        opened.on("pageerror", lambda error: messages.append(str(error)))
        opened.goto(f"http://localhost:{port}/", timeout=120_000)
        return opened

    yield open_page
    for context in contexts:
        context.close()
    assert messages == []


def test_the_page_shows_progress_and_the_report_and_renews_both(tmp_path, served, visit):
    results = tmp_path / "r"
    make(results)
    settings = config(results, "optimizer=adamw", "horizon=100", TARGETS)
    folder = record.plan(settings)
    with record.leased(folder) as lease, record.Writer(folder, settings, lease.number) as writer:
        writer.add_steps([{"step": step, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0} for step in range(40)])
        opened = visit(served(results).port)
        opened.get_by_text("running: ").first.wait_for()
        assert opened.inner_text("#steps") == "140 of 200 steps"
        report = opened.frame_locator("#report")
        report.locator("h1").first.wait_for(timeout=240_000)
        assert report.locator("#chart canvas").count() == 1
    make(results, seed=1)
    opened.get_by_text("3 runs: 2 finished").wait_for()
    report.get_by_text("3 runs: 2 finished").wait_for(timeout=240_000)


def test_html_in_the_cause_of_a_failure_stays_text(tmp_path, serving, visit):
    make(tmp_path / "r", state="failed")
    opened = visit(serving)
    opened.locator("#lines li", has_text="RuntimeError: <b>boom</b>").wait_for()
    assert opened.locator("b").count() == 0
