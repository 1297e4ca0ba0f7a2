"""A person as a judge: a page on this machine, driven by the keyboard, whose judgements are kept as they are given.

The server listens on the loopback address only, and answers only to requests that name a random path and a loopback
host: no other page in the browser can read pictures or give judgements. Nothing that a request names is ever opened as
a file: pictures are asked for by their number.
"""

import html
import json
import secrets
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

from secondlens.analysis.attack.folder import AttackFolder
from secondlens.analysis.attack.judges import Judgement
from secondlens.analysis.attack.judging import PERSON, journal_of

LARGEST_BODY = 10_000
PAGE = Path(__file__).with_name("judging.html")


class PersonPage:
    """The page over an attack's pictures. `serve()` blocks until all are judged or it is stopped; `url` is where it is.

    Pictures come in a random but fixed order, without method or caption: whoever judges does not know what made them.
    """

    def __init__(
        self, folder: AttackFolder, images: Sequence[dict[str, Any]], port: int = 0, name: str = PERSON
    ) -> None:
        self._folder = folder
        self._journal = journal_of(folder, name, {})
        known = {line["name"]: line for line in self._journal.open(lambda line: (line["name"], line["valid"]))}
        self._images = sorted(images, key=lambda line: line["seed"])
        self._said = {line["name"]: line for line in known.values()}
        self._lock = Lock()
        self._path = f"/{secrets.token_urlsafe(16)}"
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{self._path}/"

    def serve(self) -> None:
        """Answer until `stop`."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """End `serve`, from another thread."""
        self._server.shutdown()

    def close(self) -> None:
        """Let go of the port."""
        self._server.server_close()

    def state(self) -> dict[str, Any]:
        """What the page shows: every picture's classes and judgement, in order."""
        return {
            "images": [
                {
                    "source_class": line["source_class"],
                    "target_class": line["target_class"],
                    "judgement": self._judgement(line),
                }
                for line in self._images
            ]
        }

    def record(self, number: int, judgement: str) -> None:
        """Keep a judgement of picture `number`: accept, reject or skip. Raises `ValueError` for anything else."""
        said = {
            "accept": Judgement(True, False, "accepted"),
            "reject": Judgement(False, None, "rejected"),
            "skip": Judgement(None, None, "skipped"),
        }.get(judgement)
        if said is None or not 0 <= number < len(self._images):
            raise ValueError(f"no judgement {judgement!r} of picture {number}")
        line = self._images[number]
        with self._lock:
            kept = {"name": line["name"], "prompt": line["prompt"], **said.facts()}
            self._journal.add(kept)
            self._said[line["name"]] = kept

    def _judgement(self, line: dict[str, Any]) -> str | None:
        said = self._said.get(line["name"])
        if said is None or said["prompt"] != line["prompt"]:
            return None
        return {True: "accept", False: "reject", None: "skip"}[said["valid"]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                rest = self._mine()
                if rest == "":
                    self._send(200, "text/html; charset=utf-8", PAGE.read_bytes())
                elif rest == "state":
                    self._send(200, "application/json", json.dumps(page.state()).encode())
                elif rest is not None and rest.startswith("image/") and rest[6:].isdigit():
                    number = int(rest[6:])
                    if number < len(page._images):
                        file = page._folder.images / f"{page._images[number]['name']}.png"
                        self._send(200, "image/png", file.read_bytes())
                    else:
                        self._send(404, "text/plain", b"no such picture")
                else:
                    self._send(404, "text/plain", b"not found")

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if self._mine() != "judgement" or length > LARGEST_BODY:
                    self._send(404, "text/plain", b"not found")
                    return
                try:
                    said = json.loads(self.rfile.read(length))
                    page.record(int(said["number"]), str(said["judgement"]))
                except (ValueError, KeyError, TypeError) as error:
                    self._send(400, "text/plain; charset=utf-8", html.escape(str(error)).encode())
                    return
                self._send(200, "application/json", b"{}")

            def _mine(self) -> str | None:
                """The path after the secret one; None for whoever does not know it or came by another host's name."""
                host = (self.headers.get("Host") or "").rpartition(":")[0]
                known = self.path.startswith(f"{page._path}/") and host in ("127.0.0.1", "localhost")
                return self.path[len(page._path) + 1 :] if known else None

            def _send(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler
