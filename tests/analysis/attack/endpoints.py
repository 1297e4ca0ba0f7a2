"""A real HTTP server on the loopback address that speaks the wire format of an OpenAI-compatible endpoint."""

import base64
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


def png(colour: str = "red") -> str:
    """A small picture in base64."""
    held = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


class Endpoint:
    """Answers chat requests by `chat`, picture requests by `picture`; what is queued goes first."""

    def __init__(self) -> None:
        self.queue: list[tuple[int, Any]] = []
        self.chat: Callable[[dict[str, Any]], str] = lambda body: "yes"
        self.picture: Callable[[dict[str, Any]], Any] = lambda body: {"created": 1, "data": [{"b64_json": png()}]}
        self.requests: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append({"path": self.path, **body})
                status, found = endpoint.queue.pop(0) if endpoint.queue else (200, endpoint.answer(self.path, body))
                content = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, path: str, body: dict[str, Any]) -> Any:
        if path.endswith("/images/generations"):
            return self.picture(body)
        message = {"role": "assistant", "content": self.chat(body)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}

    def refuse(self, status: int, message: str, **more: object) -> None:
        self.queue.append((status, {"error": {"message": message, **more}}))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
