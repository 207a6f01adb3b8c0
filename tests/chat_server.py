"""A small server of chat completions, with the faults that real ones have."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers by a function of prompt and seed."""

    daemon_threads = True

    def __init__(self, answer: Callable[[str, int], str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.most = 99  # choices of a reply
        self.faults: list[tuple[int, str]] = []  # (status, body) given before anything else
        self.usage = True
        self.refuses = ""  # a word that makes a prompt be refused

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def reply(self, body: dict) -> dict:
        prompt = body["messages"][-1]["content"]
        count = min(body["n"], self.most)
        texts = [self.answer(prompt, body["seed"] + place) for place in range(count)]
        choices = [
            {"index": place, "message": {"content": text}, "finish_reason": "stop"}
            for place, text in enumerate(texts)
        ]
        usage = {"usage": {"prompt_tokens": 10, "completion_tokens": 3 * len(choices)}}
        return {"choices": choices, **(usage if self.usage else {})}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.headers.append(dict(self.headers))
        if self.path != "/v1/chat/completions":
            self.send(404, "no such path")
        elif self.server.faults:
            self.send(*self.server.faults.pop(0))
        elif self.server.refuses and self.server.refuses in body["messages"][-1]["content"]:
            self.send(400, '{"error": {"message": "content policy"}}')
        else:
            self.send(200, json.dumps(self.server.reply(body)))

    def send(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given: object) -> None:
        pass


@contextmanager
def serving(answer: Callable[[str, int], str]) -> Iterator[Server]:
    made = Server(answer)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()
