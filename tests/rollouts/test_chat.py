"""The adapter, against a small server that speaks chat completions."""

import json
import socket
from dataclasses import replace

import pytest

from chat_server import serving
from thalweg.data.ledger import Ledger
from thalweg.data.medu import medu
from thalweg.errors import RecipeError
from thalweg.rollouts import ChatServer
from thalweg.rollouts.authors import Asker, Want
from thalweg.rollouts.http import _asked_pause


@pytest.fixture
def server():
    with serving(lambda prompt, seed: f"{prompt}{seed % 97}") as made:
        yield made


def author(server, **more) -> ChatServer:
    return ChatServer(model="m", url=server.url, seconds=5.0, pauses=(0.0, 0.0), **more)


def test_the_request_says_what_was_asked_for(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    asked = author(
        server, system="Be brief.", temperature=0.3, new_tokens=7,
        more={"top_p": None, "max_tokens": None, "max_completion_tokens": 7},
    )  # fmt: skip
    [(place, reply)] = asked.write([Want("2+2=", answers=3)])
    [body] = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2="},
    ]
    assert (body["n"], body["temperature"], body["max_completion_tokens"]) == (3, 0.3, 7)
    assert not {"top_p", "max_tokens"} & set(body)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert (place, len(reply.said), reply.sent, reply.received) == (0, 3, 10, 9)
    assert "secret" not in repr(asked) + asked.mark


def test_a_server_that_gives_one_answer_at_a_time_is_asked_for_the_rest(server, tmp_path):
    server.most = 1
    asker = Asker(author(server), Ledger(tmp_path / "l.jsonl"))
    [first, second] = asker(["a", "b"], 3)
    assert len({one.text for one in first}) == 3
    assert {one.text[0] for one in second} == {"b"}
    assert sorted(body["n"] for body in server.bodies) == [1, 1, 2, 2, 3, 3]
    assert len({body["seed"] for body in server.bodies}) == 6


@pytest.mark.parametrize("fault", [(503, "busy"), (429, "slow down"), (200, "<html>"), (200, "[]")])
def test_what_may_pass_is_tried_again(server, fault):
    server.faults = [fault]
    [(_, reply)] = author(server).write([Want("a")])
    assert reply.said[0].text.startswith("a")
    assert len(server.bodies) == 2


def test_a_server_may_ask_for_a_longer_pause_within_reason():
    assert _asked_pause("3", 0.5) == 3.0
    assert _asked_pause("0", 0.5) == 0.5
    assert _asked_pause("3600", 0.5) == 60.0
    assert _asked_pause("Fri, 21 Nov 2026 10:00:00 GMT", 0.5) == 0.5
    assert _asked_pause("3", None) is None


def test_tries_end_and_the_error_quotes_the_server(server):
    server.faults = [(500, "out of memory")] * 3
    with pytest.raises(RecipeError, match="500: out of memory") as caught:
        list(author(server).write([Want("a")]))
    assert caught.value.where == server.url + "/chat/completions"


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_final(server, status):
    server.faults = [(status, "no")]
    with pytest.raises(RecipeError, match=f"{status}: no"):
        list(author(server).write([Want("a")]))
    assert len(server.bodies) == 1


def test_a_reply_without_choices_is_refused(server):
    server.most = 0
    with pytest.raises(RecipeError, match="without choices"):
        author(server)("a")


def test_a_server_that_says_nothing_in_time_is_given_up():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        with pytest.raises(RecipeError, match="timed out"):
            ChatServer(model="m", url=url, seconds=0.05, pauses=())("a")


def test_what_was_bought_before_a_refusal_is_kept(server, tmp_path):
    server.refuses = "bad"
    file = tmp_path / "l.jsonl"
    with pytest.raises(RecipeError, match="content policy"):
        Asker(author(server, parallel=1), Ledger(file))(["a", "b", "bad", "c"], 2)
    assert len(Ledger(file)) == 2
    server.refuses, server.bodies = "", []
    asker = Asker(author(server), Ledger(file), price=(1e6, 2e6))
    assert len(asker(["a", "b", "bad", "c"], 2)) == 4
    assert len(server.bodies) == 2
    assert asker.cost() == (
        "4 answers written and 4 found; 20 tokens sent and 12 received, 44.00 spent"
    )


def test_more_answers_cost_only_the_new_ones(server, tmp_path):
    asker = Asker(author(server), Ledger(tmp_path / "l.jsonl"))
    [few] = asker(["a"], 2)
    [more] = asker(["a"], 5)
    assert more[:2] == few
    assert [body["n"] for body in server.bodies] == [2, 3]
    assert len({body["seed"] for body in server.bodies}) == 2


def test_answers_of_another_temperature_are_others(server, tmp_path):
    file = tmp_path / "l.jsonl"
    Asker(author(server), Ledger(file))(["a"])
    Asker(replace(author(server), temperature=0.9), Ledger(file))(["a"])
    Asker(replace(author(server), parallel=3), Ledger(file))(["a"])
    assert len(server.bodies) == 2


def test_tokens_are_guessed_where_the_server_does_not_count(server):
    server.usage = False
    [(_, reply)] = author(server).write([Want("a" * 40)])
    assert reply.sent == 10
    assert reply.received == 10


def test_several_answers_at_temperature_0_are_refused(server, tmp_path):
    cold = Asker(author(server, temperature=0.0), Ledger(tmp_path / "l.jsonl"))
    assert len(cold(["a"], 1)) == 1
    with pytest.raises(RecipeError, match="temperature 0"):
        cold(["a"], 2)


def test_it_can_be_asked_for_ratings(tmp_path):
    with serving(lambda prompt, seed: "good") as server:
        found = medu(
            author(server), {"sums": ["1+1"]}, {"web": ["text"]}, tmp_path / "c", say=lambda t: None
        )
    assert found.utility == {"web": {"sums": 0.75}}
    assert json.loads((tmp_path / "c").read_text().splitlines()[0])["entry"] == {"answer": "good"}
