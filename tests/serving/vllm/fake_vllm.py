"""A program that stands for vLLM's server: real HTTP on a Unix socket, the events that vLLM 0.32 sends.

Called `fake_vllm.py SCRIPT --uds SOCKET`. SCRIPT is a JSON file, read anew for each request:

    start       {"lines": […], "exit": CODE}: what it says at first; with `exit` it ends there
    prompt      ids that it says the prompt has
    chunks      lists of ids, an event each; log-probabilities are -id / 1000
    finish      vLLM's reason in the last event; null: the stream just ends
    repeat      send the chunks again and again, until the client hangs up
    crash       end the process after the chunks
    error, raw  an error event, or any other text as an event, after the chunks
    status, body   an answer without a stream

What it was asked is in SCRIPT with the suffix .log, a JSON object a line; `{"gone": true}`: a client hung up.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

SCRIPT = Path(sys.argv[1])
_LOCK = threading.Lock()


def note(entry: dict[str, Any]) -> None:
    with _LOCK, SCRIPT.with_suffix(".log").open("a") as file:
        file.write(json.dumps(entry) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._whole(200 if self.path == "/health" else 404, None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note({"path": self.path, "body": body})
        script = json.loads(SCRIPT.read_text())
        if "status" in script:
            self._whole(script["status"], script["body"])
            return
        try:
            self._stream(script, body)
        except OSError:
            note({"gone": True})
            self.close_connection = True

    def _stream(self, script: dict[str, Any], body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chat = self.path == "/v1/chat/completions"
        prompt = script["prompt"]
        if chat:
            first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
            self._event(event(body, {**first, "finish_reason": None}) | {"prompt_token_ids": prompt})
        last = len(script["chunks"]) - 1
        while True:
            for number, ids in enumerate(script["chunks"]):
                finish = script.get("finish") if number == last and not script.get("repeat") else None
                choice = text_choice(ids, body, finish, chat)
                if not chat and number == 0:
                    choice["prompt_token_ids"] = prompt
                self._event(event(body, choice))
            if not script.get("repeat"):
                break
            time.sleep(0.001)
        if script.get("crash"):
            print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", flush=True)
            os._exit(3)
        if "error" in script:
            self._event({"error": script["error"]})
        if "raw" in script:
            self._write(f"data: {script['raw']}\n\n")
        if script.get("finish") or "error" in script:
            self._write("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, value: dict[str, Any]) -> None:
        self._write(f"data: {json.dumps(value)}\n\n")

    def _write(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _whole(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def event(body: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-8f1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
    }


def text_choice(ids: list[int], body: dict[str, Any], finish: str | None, chat: bool) -> dict[str, Any]:
    """vLLM's own texts, which nobody here should use, are wrong."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "token_ids": ids, "logprobs": None}
    if finish:
        choice["stop_reason"] = None
    logprobs = [-token / 1000 for token in ids]
    if chat:
        choice["delta"] = {"content": "wrong"}
        if body.get("logprobs"):
            entries = [{"token": "wrong", "logprob": value, "bytes": [119]} for value in logprobs]
            choice["logprobs"] = {"content": [{**entry, "top_logprobs": []} for entry in entries]}
    else:
        choice["text"] = "wrong"
        if body.get("logprobs") is not None:
            choice["logprobs"] = {"tokens": ["wrong"] * len(ids), "token_logprobs": logprobs}
    return choice


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> Any:
        request, _ = super().get_request()
        return request, ("local", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


if __name__ == "__main__":
    start = json.loads(SCRIPT.read_text()).get("start", {})
    for line in start.get("lines", []):
        print(line, flush=True)
    if "exit" in start:
        sys.exit(start["exit"])
    Server(sys.argv[sys.argv.index("--uds") + 1], Handler).serve_forever()
