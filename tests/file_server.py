"""A web server on the loopback for the files of a folder, with range requests, and faults on request."""

import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote


@dataclass
class Fault:
    """What goes wrong with requests for files whose name contains `match`.

    Attributes:
        kind: "error" answers 500; "cut" closes the connection in the middle of the body; "slow" waits first; "short" announces
            the right length and sends less; "wrong" serves other bytes, of the right length.
        times: how often; then all is well.
        after: requests for bytes that are answered well before.
    """

    match: str
    kind: str
    times: int = 1_000_000
    after: int = 0
    delay_s: float = 0.5


class FileServer:
    """Serves `root` while the block lasts.

    Attributes:
        url: of the folder.
        faults: in the order in which they are looked through.
        requests: "METHOD /path range" of each, in order.
    """

    def __init__(self, root: Path) -> None:
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"root": root, "owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in path and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    owner: FileServer

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self, *, body: bool) -> None:
        wanted = self.headers.get("Range", "")
        self.owner.requests.append(f"{self.command} {self.path} {wanted}")
        file = self.root / unquote(self.path).lstrip("/")
        if not file.is_file():
            return self._answer(404, b"", body=body)
        data, status, headers = file.read_bytes(), 200, {}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        if found is not None:
            start, end = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data, status = data[start : end + 1], 206
        fault = self.owner.fault_for(self.path) if body else None
        if fault is not None and fault.kind == "error":
            return self._answer(500, b"out of order", body=body)
        if fault is not None and fault.kind == "slow":
            time.sleep(fault.delay_s)
        if fault is not None and fault.kind == "wrong":
            data = bytes(len(data))
        length = len(data)
        if fault is not None and fault.kind in ("cut", "short"):
            data = data[: length // 2]
            self.close_connection = True
        return self._answer(status, data, body=body, length=length, headers=headers)

    def _answer(
        self,
        status: int,
        data: bytes,
        *,
        body: bool,
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if body:
            self.wfile.write(data)
