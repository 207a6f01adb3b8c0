"""What sources of text share: how many rows are left, and what they refuse."""

from functools import lru_cache
from typing import Protocol, TypeGuard, runtime_checkable

from thalweg.core.protocols import Context, Source, State
from thalweg.errors import DataError, DialError, StateError

__all__ = ["Limited", "check_epochs", "check_fingerprint", "is_limited", "spent"]


@runtime_checkable
class Limited(Protocol):
    """A source that may come to an end."""

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        ...


class _LimitedSource(Limited, Source, Protocol): ...


def is_limited(source: Source) -> TypeGuard[_LimitedSource]:
    """Return whether a source can say how many rows are left; asked once for each class."""
    return _has_room(type(source))


def check_epochs(max_epochs: float | None, name: str) -> None:
    """Refuse a number of epochs that is not positive.

    Raises:
        DialError: It is zero, negative or NaN.
    """
    if max_epochs is not None and not max_epochs > 0:
        raise DialError(
            f"max_epochs={max_epochs}",
            expected="a number above 0, or None for no limit",
            where=f"source '{name}'",
            write="max_epochs=4",
        )


def check_fingerprint(state: State, fingerprint: str, store: str) -> None:
    """Refuse a state that was made on other data.

    Raises:
        StateError: The fingerprints differ.
    """
    if state["fingerprint"] != fingerprint:
        raise StateError(
            f"a position in data {state['fingerprint']}, but this store holds {fingerprint}",
            expected="the data the run was started with: files or tokenizer have changed",
            where=store,
            write="bring the old data back, or start a new run (or a new phase) on the new data",
        )


def spent(name: str, max_epochs: float | None, store: str) -> DataError:
    """Return the error of a source that has given all its epochs."""
    return DataError(
        f"source '{name}' has no rows left: {max_epochs:g} epochs are given",
        expected="at most max_epochs passes over the data",
        where=store,
        write="fewer steps or rows, a larger max_epochs, max_epochs=None, or more data",
    )


@lru_cache(maxsize=256)
def _has_room(kind: type) -> bool:
    return issubclass(kind, Limited)
