"""A small hub on the loopback, in memory: what pushing and fetching a model or a data set needs, and faults on request.

It speaks the HTTP protocol of the Hugging Face Hub without Xet: make a repository, check the card, ask how to upload,
send large files, commit; list and fetch. A commit is one revision: a dictionary of path to bytes.
"""

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Json = Any
_LARGE = (".safetensors", ".parquet", ".tar")


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path" contains `match`.

    Attributes:
        kind: "status" answers so; "cut" closes the connection after reading some of the body; "cut_answer" does what
            was asked and closes the connection instead of answering; "slow" waits first, then answers.
        times: how often; then all is well.
        status, headers: of the answer.
        delay_s: of "slow".
        held: of "hold", which reads the request, sets this and never answers.
    """

    match: str
    kind: str = "status"
    times: int = 1_000_000
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    held: threading.Event = field(default_factory=threading.Event)


@dataclass
class Repository:
    """Revisions, oldest first: each is path -> content."""

    private: bool
    revisions: list[dict[str, bytes]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


class FakeHub:
    """A context manager; `address` is its endpoint.

    Attributes:
        token: what a writer must send, None for anyone.
        faults: of which the first that matches is applied.
        repositories: by owner/name; those of data sets by datasets/owner/name.
        requests: "METHOD /path" of all that came.
    """

    def __init__(self, *, token: str | None = None) -> None:
        self.token = token
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and fault.match in request:
                    fault.times -= 1
                    return fault
        return None

    def head(self, repo: str) -> dict[str, bytes]:
        """The newest revision; empty if there is none."""
        found = self.repositories.get(repo)
        return found.revisions[-1] if found and found.revisions else {}


def revision_name(files: dict[str, bytes]) -> str:
    """40 hexadecimal digits that stand for a revision."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def blob_name(data: bytes) -> str:
    """Git's name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    # Header and body in one packet, and at once: waiting for acknowledgments would cost 40 ms a request.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.hub.fault_for(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.kind == "cut":
            self.rfile.read(min(length, 100_000))
            self._hang_up()
            return
        body = self._read_chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        if fault and fault.kind == "status":
            # As careless as a server can be: the error repeats what authorized the request.
            said = f"planned fault; you sent {self.headers.get('Authorization')}"
            self._answer(fault.status, {"error": said}, {**fault.headers, "X-Error-Message": said})
            return
        if fault and fault.kind == "hold":
            fault.held.set()
            self.close_connection = True
            self.connection.recv(1)  # until the client goes away
            return
        if fault and fault.kind == "slow":
            time.sleep(fault.delay_s)
        if fault and fault.kind == "cut_answer":
            self._route(path, body, answer=False)
            self._hang_up()
            return
        self._route(path, body, answer=True)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _read_chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(
        self, status: int, value: Json = None, headers: dict[str, str] | None = None, data: bytes = b""
    ) -> None:
        payload = data if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def _route(self, path: str, body: bytes, *, answer: bool) -> None:
        status, value, headers, data = self._respond(path, body)
        if answer:
            self._answer(status, value, headers, data)

    def _respond(self, path: str, body: bytes) -> tuple[int, Json, dict[str, str], bytes]:
        parts = path.strip("/").split("/")
        writing = self.command == "POST" and not path.startswith("/api/validate-yaml")
        if writing and self.hub.token not in (None, (self.headers.get("Authorization") or "").removeprefix("Bearer ")):
            return 401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials in header"}, b""
        if parts[:2] == ["api", "repos"]:
            return self._create(json.loads(body))
        if parts[:2] == ["api", "validate-yaml"]:
            return 200, {"warnings": [], "errors": []}, {}, b""
        if parts[:2] in (["api", "models"], ["api", "datasets"]):
            repo = "/".join(parts[2:4] if parts[1] == "models" else parts[1:4])
            return self._repository(repo, parts[4:], body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": self._batch(json.loads(body))}, {}, b""
        if parts[0] == "large":
            return self._large(parts[1], body)
        if parts[2:3] == ["resolve"] or parts[3:4] == ["resolve"]:
            at = parts.index("resolve")
            return self._file("/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]))
        return 404, {"error": f"no such page {path}"}, {}, b""

    def _create(self, request: Json) -> tuple[int, Json, dict[str, str], bytes]:
        repo = f"{request['organization']}/{request['name']}"
        repo = f"datasets/{repo}" if request.get("type") == "dataset" else repo
        url = f"{self.hub.address}/{repo}"
        if repo in self.hub.repositories:
            return 409, {"error": "You already created this model repo", "url": url}, {}, b""
        self.hub.repositories[repo] = Repository(private=request.get("visibility") == "private")
        return 200, {"url": url}, {}, b""

    def _repository(self, repo: str, rest: list[str], body: bytes) -> tuple[int, Json, dict[str, str], bytes]:
        if repo not in self.hub.repositories:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}, b""
        files = self.hub.head(repo)
        if rest[:1] == ["preupload"]:
            asked = json.loads(body)["files"]
            return 200, {"files": [self._upload_mode(entry, files) for entry in asked]}, {}, b""
        if rest[:1] == ["commit"]:
            return self._commit(repo, body)
        if rest[:1] == ["tree"]:
            return 200, self._tree(files, "/".join(rest[2:])), {}, b""
        siblings = [{"rfilename": path} for path in files]
        return 200, {"id": repo, "sha": revision_name(files), "siblings": siblings, "private": True}, {}, b""

    def _tree(self, files: dict[str, bytes], folder: str) -> list[Json]:
        """The files below a folder, "" for all, or where that is not asked for its files and folders."""
        prefix = f"{folder}/" if folder else ""
        below = {path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)}
        if "recursive=true" in self.path.lower():
            return [self._entry(prefix + path, data) for path, data in below.items()]
        folders = {path.partition("/")[0] for path in below if "/" in path}
        return [
            *(self._entry(prefix + path, data) for path, data in below.items() if "/" not in path),
            *(
                {"type": "directory", "path": prefix + name, "size": 0, "oid": blob_name(name.encode())}
                for name in folders
            ),
        ]

    def _upload_mode(self, entry: Json, files: dict[str, bytes]) -> Json:
        large = entry["path"].endswith(_LARGE)
        answer = {"path": entry["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if entry["path"] in files:
            data = files[entry["path"]]
            answer["oid"] = hashlib.sha256(data).hexdigest() if large else blob_name(data)
        return answer

    def _entry(self, path: str, data: bytes) -> Json:
        entry = {"type": "file", "path": path, "size": len(data), "oid": blob_name(data)}
        if path.endswith(_LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _batch(self, request: Json) -> list[Json]:
        objects = []
        for asked in request["objects"]:
            found = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.large_files:
                found["actions"] = {"upload": {"href": f"{self.hub.address}/large/{asked['oid']}"}}
            objects.append(found)
        return objects

    def _large(self, oid: str, body: bytes) -> tuple[int, Json, dict[str, str], bytes]:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "sha256 of the upload is not the one announced"}, {}, b""
        self.hub.large_files[oid] = body
        return 200, {}, {}, b""

    def _commit(self, repo: str, body: bytes) -> tuple[int, Json, dict[str, str], bytes]:
        files = dict(self.hub.head(repo))
        message = ""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        found = self.hub.repositories[repo]
        found.revisions.append(files)
        found.messages.append(message)
        name = revision_name(files)
        return 200, {"commitUrl": f"{self.hub.address}/{repo}/commit/{name}", "commitOid": name}, {}, b""

    def _file(self, repo: str, _revision: str, path: str) -> tuple[int, Json, dict[str, str], bytes]:
        files = self.hub.head(repo)
        if path not in files:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"}, b""
        data = files[path]
        headers = {
            "X-Repo-Commit": revision_name(files),
            "ETag": f'"{blob_name(data)}"',
            "Content-Length": str(len(data)),
        }
        return 200, None, headers, data
