"""How many threads shall run a list of operations: found out while it runs, since only then it is known.

More threads are faster until they are not: a small network has too little work for many, and where other programs use
the processor, threads that wait for each other wait long. As results do not depend on the number, the training itself
is the measurement: each number has its turn, then the fastest is used, and now and then the others are tried again.
"""

from __future__ import annotations

FIRST_TRIALS = 3        # of each number; the first may be slow for other reasons
FIRST_REVISIT = 8       # runs until the others are tried again; then twice as many each time ...
REVISIT = 64            # ... up to so many
REMEMBERED = 5          # latest times of each number; the shortest counts, the others were disturbed


class ThreadChoice:
    """Proposes numbers of threads and is told how long they took.

    Parameters
    ----------
    most : int
        The highest number; 1, 2, 4, ... up to it are tried.
    fixed : int, optional
        The only number, where somebody has decided.

    Examples
    --------
    >>> choice = ThreadChoice(2)
    >>> for _ in range(8):
    ...     threads = choice.propose()
    ...     choice.took(threads, 1.0 / threads)
    >>> choice.best
    2
    """

    def __init__(self, most: int, fixed: int | None = None) -> None:
        powers = [1 << k for k in range(most.bit_length()) if 1 << k < most]
        self._times: dict[int, list[float]] = {number: [] for number in ([fixed] if fixed else [*powers, most])}
        self._waiting = [number for number in self._times for _ in range(FIRST_TRIALS)]     # to be tried next
        self._pause = FIRST_REVISIT
        self._until = self._pause
        self.best = fixed or most

    def propose(self) -> int:
        """The number of threads for the next run."""
        return self._waiting[0] if self._waiting else self.best

    def took(self, threads: int, seconds: float) -> None:
        """Note how long a run with so many threads took."""
        self._times[threads] = [*self._times[threads], seconds][-REMEMBERED:]
        if self._waiting:
            self._waiting.pop(0)
        else:
            self._until -= 1
        if all(self._times.values()):
            self.best = min(self._times, key=lambda number: min(self._times[number]))
        if self._until == 0:
            self._pause = min(REVISIT, 2 * self._pause)
            self._until, self._waiting = self._pause, [number for number in self._times if number != self.best]
