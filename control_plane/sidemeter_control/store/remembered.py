"""What was read once and holds until the configuration changes."""

from typing import Generic, TypeVar

from sidemeter_control.store.state import State

__all__ = ["Remembered"]

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Answers that depend on nothing but the configuration, of one state of it at a time; never more than `most`.

    >>> known: Remembered[str, int] = Remembered(most=10)
    >>> known.at(State("g", 1))["tokens"] = 5
    >>> known.at(State("g", 1)), known.at(State("g", 2))
    ({'tokens': 5}, {})
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: tuple[State | None, dict[K, V]] = (None, {})

    def at(self, now: State) -> dict[K, V]:
        """What is known of that state, to be filled by whoever misses something.

        Only from a transaction that has not written yet: the state stands for what is committed.
        """
        state, known = self._kept  # one step, because readers are in several threads
        if state != now or len(known) >= self._most:
            known = {}
            self._kept = now, known
        return known
