"""An end for functions of Python that threads of a foreign runtime call for ever."""

import atexit
import threading
import time
from collections.abc import Callable

# Calls count as over when there was none for this long.
_QUIET_S = 0.5


class UntilExit:
    """A function for tensorflow's threads to call, which ends their sequence when Python exits.

    An endless dataset works ahead whenever its buffers have room. A thread of tensorflow that
    calls Python while the interpreter shuts down never returns, and the shutdown, which deletes
    the iterator, waits for that thread for ever.
    """

    def __init__(self, function: Callable):
        self._function = function
        self._exiting = threading.Event()
        self._n_running = 0
        self._lock = threading.Lock()
        self._last_call_s = 0.0
        atexit.register(self._wait_for_calls)

    def __call__(self, *arguments):
        """Call the function, or raise StopIteration once Python exits."""
        with self._lock:
            self._n_running += 1
        try:
            if self._exiting.is_set():
                raise StopIteration
            return self._function(*arguments)
        finally:
            with self._lock:
                self._n_running -= 1
                self._last_call_s = time.monotonic()

    def _wait_for_calls(self):
        self._exiting.set()
        while self._n_running or time.monotonic() < self._last_call_s + _QUIET_S:
            time.sleep(0.01)
