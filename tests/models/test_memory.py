import sys

from thalweg.models.memory import keep_freed_memory


def test_it_is_a_no_op_outside_linux(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


def test_it_can_be_called_twice() -> None:
    assert keep_freed_memory() == keep_freed_memory()
