"""A small hub on 127.0.0.1: what huggingface_hub asks of the real one to make a repository and commit to it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "secretsecret" * 3
LARGE = 4096
"""Files of more bytes go by the LFS batch API."""


@dataclass
class Repo:
    """A repository's head."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    lfs: set[str] = field(default_factory=set)
    commits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(str(len(self.commits)).encode()).hexdigest()


@dataclass
class Hub:
    """What the server holds, what it was asked, and where it is to fail."""

    url: str = ""
    role: str = "write"
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path, and the Authorization header."""
    fail: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By a pattern of "METHOD path": the status, and what is said."""

    def paths(self, method: str) -> list[str]:
        return [path for asked, path, _ in self.asked if asked == method]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def _handle(self, method: str) -> None:
        body = self._body()
        path = self.path.split("?")[0]
        self.hub.asked.append((method, path, self.headers.get("Authorization")))
        for pattern, (status, said) in self.hub.fail.items():
            if re.search(pattern, f"{method} {path}"):
                return self._answer({"error": said}, status)
        if path.startswith("/lfs-store/"):  # a signed address: no token is asked for
            self.hub.objects[path.rpartition("/")[2]] = body
            return self._answer({})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid credentials in Authorization header"}, 401)
        answer, status = _route(self.hub, method, path, body)
        return self._answer(answer, status)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _route(hub: Hub, method: str, path: str, body: bytes) -> tuple[Any, int]:
    asked: Any = json.loads(body) if body and not path.endswith("/commit/main") else {}
    if path == "/api/whoami-v2":
        orgs = [{"name": "Letters"}]
        return {"name": "ada", "orgs": orgs, "auth": {"accessToken": {"role": hub.role}}}, 200
    if path == "/api/validate-yaml":
        return {"warnings": [], "errors": []}, 200
    if path == "/api/repos/create":
        name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
        if name in hub.repos:
            return {"error": "You already created this model repo"}, 409
        hub.repos[name] = Repo(private=asked.get("visibility") == "private" or asked.get("private") is True)
        return {"url": f"{hub.url}/{name}"}, 200
    if match := re.fullmatch(r"/(.+/.+)\.git/info/lfs/objects/batch", path):
        return {"objects": [_lfs_action(hub, item) for item in asked["objects"]]}, 200
    match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|preupload|commit)/\w+)?", path)
    repo = hub.repos.get(match[1]) if match else None
    if match is None or repo is None:
        return {"error": "Repository not found"}, 404
    if match[2] == "preupload":
        return {"files": [_mode(repo, item) for item in asked["files"]]}, 200
    if match[2] == "commit":
        return _commit(hub, match[1], repo, body)
    return _info(match[1], repo), 200


def _lfs_action(hub: Hub, item: dict[str, Any]) -> dict[str, Any]:
    if item["oid"] in hub.objects:
        return dict(item)
    return {**item, "actions": {"upload": {"href": f"{hub.url}/lfs-store/{item['oid']}"}}}


def _mode(repo: Repo, item: dict[str, Any]) -> dict[str, Any]:
    path = item["path"]
    ignored = path in repo.files.get(".gitignore", b"").decode().split()
    mode = "lfs" if item["size"] > LARGE else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": ignored}


def _commit(hub: Hub, name: str, repo: Repo, body: bytes) -> tuple[Any, int]:
    lines = [json.loads(line) for line in body.splitlines()]
    header = lines[0]["value"]
    if header.get("parentCommit") not in (None, repo.sha):
        return {"error": "A commit has happened since. Please refresh and try again."}, 412
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            repo.files[value["path"]] = base64.b64decode(value["content"])
            repo.lfs.discard(value["path"])
        elif line["key"] == "lfsFile":
            repo.files[value["path"]] = hub.objects[value["oid"]]
            repo.lfs.add(value["path"])
        else:
            del repo.files[value["path"]]
    repo.commits.append(header)
    return {"commitUrl": f"{hub.url}/{name}/commit/{repo.sha}", "commitOid": repo.sha}, 200


def _info(name: str, repo: Repo) -> dict[str, Any]:
    siblings = []
    for path, data in repo.files.items():
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": blob}
        if path in repo.lfs:
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"size": len(data), "sha256": sha256, "pointerSize": 134}
        siblings.append(entry)
    return {"id": name, "private": repo.private, "sha": repo.sha, "siblings": siblings}
