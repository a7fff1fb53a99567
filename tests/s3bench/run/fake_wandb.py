"""A small wandb server on 127.0.0.1 that keeps what it is sent, and can fail the way networks fail."""

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIFE = 120  # seconds after which a server stops by itself
STATUSES = {"401": 401, "403": 403, "429": 429, "500": 500}
FAULTS = [*STATUSES, "garbage", "cut", "silent", "drip"]


class FakeWandb(ThreadingHTTPServer):
    """Serves within its context.

    Args:
        fault: how the server fails, one of FAULTS or "refused"; None: it does not fail.
        mid_run: whether it fails only once a run has begun, rather than from the start.

    Attributes:
        runs: what was received of each run, by id: config, group, rows (of the history), summary, complete, exit_code,
            preempting.
        views: the workspaces and reports, as they were sent.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, fault=None, mid_run=False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.works = fault, mid_run
        self.runs = {}
        self.views = []
        self.requests = 0
        self.over = threading.Event()

    @property
    def environment(self):
        """Return environment variables for a process that is to talk to the server."""
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_port}", "WANDB_API_KEY": KEY}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        self.timer = threading.Timer(LIFE, self.stop)
        self.timer.daemon = True
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.timer.cancel()
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # the client gave up


KEY = "0123456789" * 4


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests += 1
        if self.server.fault and not self.server.works:
            self.fail(self.server.fault)
            return
        result = {}
        if self.path.startswith("/graphql"):
            asked = json.loads(body)
            result = {"data": self.query(asked.get("operationName"), asked["query"], asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            self.stream(self.path.split("/")[-2], json.loads(body))
        self.reply(200, json.dumps(result).encode())
        if self.server.runs and self.server.works:
            self.server.works = False
            if self.server.fault == "refused":
                self.server.stop()

    do_GET = do_POST = do_PUT = answer

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, fault):
        self.close_connection = True
        if fault in STATUSES:
            self.reply(STATUSES[fault], b'{"errors": [{"message": "user is not logged in"}]}')
        elif fault == "garbage":
            self.reply(200, b"<html>Please log in to the hotel's network</html>")
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"data": {')
        elif fault == "silent":
            self.server.over.wait(LIFE)
        elif fault == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.server.over.wait(0.2):
                    self.wfile.write(b" ")

    def query(self, name, text, variables):
        if name == "UpsertBucket":
            return {"upsertBucket": {"bucket": self.upsert(variables), "inserted": True}}
        if name == "RunResumeStatus":
            return {"model": {"id": "p", "name": "s3bench", "entity": ME, "bucket": self.resumed(variables["name"])}}
        if name == "CreateRunFiles":
            url = f"http://127.0.0.1:{self.server.server_port}/upload/"
            files = [{"name": file, "uploadUrl": url + file} for file in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if "query GetProjects" in text:
            project = {"id": "p", "name": "s3bench", "entityName": "me", "createdAt": "", "isBenchmark": False}
            edges = [{"node": {"__typename": "Project", **project, "user": None}}]
            return {
                "models": {
                    "pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False},
                    "edges": edges,
                }
            }
        if "upsertView(" in text:
            self.server.views.append(variables)
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            view = {key: variables[key] for key in ("name", "displayName", "description", "spec")}
            return {"upsertView": {"view": {"id": "v", **view, "project": project}, "inserted": True}}
        if "viewer" in text:
            return {"viewer": {**ME, "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {}

    def upsert(self, variables):
        new = {"config": {}, "group": None, "rows": [], "summary": {}, "complete": None, "exit_code": None}
        run = self.server.runs.setdefault(variables["name"], {**new, "preempting": None})
        run["config"] |= json.loads(variables.get("config") or "{}")
        run["group"] = variables.get("groupName") or run["group"]
        return {
            "id": "b",
            "name": variables["name"],
            "displayName": variables.get("displayName"),
            "config": json.dumps(run["config"]),
            "historyLineCount": len(run["rows"]),
            "project": {"id": "p", "name": "s3bench", "entity": ME},
        }

    def resumed(self, name):
        run = self.server.runs.get(name)
        if run is None:
            return None
        return {
            "id": "b",
            "name": name,
            "displayName": name,
            "summaryMetrics": json.dumps(run["summary"]),
            "historyLineCount": len(run["rows"]),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run["rows"][-1:]]),
            "eventsTail": "[]",
            "config": json.dumps(run["config"]),
            "tags": [],
            "wandbConfig": '{"t": 1}',
        }

    def stream(self, name, sent):
        run = self.server.runs[name]
        files = sent.get("files", {})
        if "wandb-history.jsonl" in files:
            history = files["wandb-history.jsonl"]
            run["rows"][history["offset"] :] = [json.loads(line) for line in history["content"]]
        if "wandb-summary.json" in files:
            run["summary"] = json.loads(files["wandb-summary.json"]["content"][-1])
        run["complete"] = sent.get("complete", False)
        run["exit_code"] = sent.get("exitcode", run["exit_code"])
        run["preempting"] = sent.get("preempting", run["preempting"])

    def log_message(self, *_):
        pass


ME = {"id": "u", "name": "me"}
