"""The adapter, against a small server that speaks vLLM's API with a model of ours."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from rollout_helpers import MODEL, SOURCE, Room, batch_of
from thalweg.core.learner import Learner
from thalweg.core.moves import logprobs
from thalweg.core.world import World
from thalweg.errors import RecipeError
from thalweg.models import Pretrained
from thalweg.rollouts import Sampling, Vllm, generate


class Server(ThreadingHTTPServer):
    """Knows the completions call and the two calls that follow a change of weights."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.module = MODEL.build(9)
        self.calls: list[tuple[str, dict]] = []
        self.failures = 0
        self.without: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: dict) -> dict:
        self.calls.append((path, body))
        if path == "/v1/models":
            return {"data": [{"id": "policy"}]}
        if path == "/collective_rpc":
            self.module = Pretrained(body["kwargs"]["weights_path"]).build(0)
            return {"results": [None]}
        if path == "/reset_prefix_cache":
            return {}
        how = Sampling(
            new_tokens=body["max_tokens"],
            temperature=body["temperature"],
            stop_ids=tuple(body["stop_token_ids"]),
        )
        [answers] = generate(self.module, [body["prompt"]], how, group=body["n"], seed=body["seed"])
        choices = [
            {
                "index": place,
                "token_ids": one.tokens,
                "logprobs": {"token_logprobs": one.logprobs},
                "finish_reason": "stop" if one.finished else "length",
            }
            for place, one in enumerate(answers)
        ]
        for choice in choices:
            choice.pop(self.without, None)
        return {"choices": choices[::-1]}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply({})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.reply(json.loads(self.rfile.read(length)))

    def reply(self, body: dict) -> None:
        if self.server.failures and self.path == "/v1/completions":
            self.server.failures -= 1
            self.send_error(503, "busy")
            return
        data = json.dumps(self.server.answer(self.path, body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def spec(server: Server, folder) -> Vllm:
    return Vllm(model="policy", folder=str(folder / "weights"), url=server.url, seconds=30.0)


def test_a_batch_is_written_by_the_server_with_the_actor_s_weights(server, tmp_path):
    room = Room()
    batch = batch_of(replace(SOURCE, server=spec(server, tmp_path)), room)
    now = room.ctx.models["actor"].score(logprobs, batch)
    counts = batch["weight"] > 0
    assert (now - batch["old"])[counts].abs().max() < 1e-4
    assert batch["group"].tolist() == [g for g in range(4) for _ in range(4)]
    assert len({tuple(row) for row in batch["tokens"].tolist()}) > 8
    assert set(room.logged) >= {"reward", "length", "finished", "pass@1"}


def test_ids_go_in_and_come_out(server, tmp_path):
    found = spec(server, tmp_path).answers(
        [[256, 97], [256, 98, 99]], Sampling(new_tokens=5, stop=("x",)), group=2, keys=[3, 4],
        first=0, seed=1, end_id=256, longest=7,
    )  # fmt: skip
    assert [len(answers) for answers in found] == [2, 2]
    bodies = {tuple(body["prompt"]): body for _, body in server.calls}
    body = bodies[256, 98, 99]
    assert body["n"] == 2
    assert body["max_tokens"] == 4
    assert body["stop_token_ids"] == [256]
    assert body["return_token_ids"] is True
    assert body["seed"] != bodies[256, 97]["seed"]
    for answers in found:
        for one in answers:
            assert len(one.tokens) == len(one.logprobs) > 0
            assert one.finished == (one.tokens[-1] == 256)


def calls(server: Server, path: str) -> int:
    return sum(one == path for one, _ in server.calls)


def test_weights_are_published_when_they_have_changed(server, tmp_path):
    there, learner = spec(server, tmp_path), Learner("actor", MODEL.build(0), World())
    there.publish(learner, 0)
    there.publish(learner, 0)
    assert calls(server, "/collective_rpc") == calls(server, "/reset_prefix_cache") == 1
    with torch.no_grad():
        learner.module.norm.weight.mul_(2)
    there.publish(learner, 0)
    assert calls(server, "/collective_rpc") == 2
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(server.module(tokens), learner.module(tokens))
    there.publish(learner, 4)
    latest = tmp_path / "weights" / "latest"
    assert latest.resolve().name == "version-4"
    assert torch.equal(Pretrained(str(latest)).build(0)(tokens), learner.module(tokens))


def test_the_last_two_versions_stay_on_disk(server, tmp_path):
    there, learner = spec(server, tmp_path), Learner("actor", MODEL.build(0), World())
    for version in (0, 2, 2, 4, 6, 4):
        with torch.no_grad():
            learner.module.norm.weight.mul_(1.5)
        there.publish(learner, version)
    left = sorted(path.name for path in (tmp_path / "weights").glob("version-*"))
    assert left == ["version-4", "version-6"]


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.failures = 1
    assert batch_of(replace(SOURCE, server=spec(server, tmp_path))).rows == 16


@pytest.mark.parametrize("missing", ["token_ids", "logprobs"])
def test_a_server_that_gives_no_ids_or_log_probs_is_refused(server, tmp_path, missing):
    server.without = missing
    with pytest.raises(RecipeError, match=r"token_logprobs: vLLM 0\.10\.2"):
        batch_of(replace(SOURCE, server=spec(server, tmp_path)))


def test_a_server_of_another_model_or_none_is_refused(server, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="one that serves 'other'"):
        replace(spec(server, tmp_path), model="other").check()
    monkeypatch.setattr("thalweg.rollouts.vllm._PAUSES", ())
    with pytest.raises(RecipeError, match="Connection refused"):
        replace(spec(server, tmp_path), url="http://127.0.0.1:9").check()
