"""Work that goes on in a thread while its results are used."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def iterate_ahead(items: Iterable[Item], n_ahead: int) -> Iterator[Item]:
    """Iterate in a thread that runs up to ``n_ahead`` items ahead; closing ends the thread."""
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(n_ahead)
    abandoned = threading.Event()

    def put(is_item: bool, value: Item | BaseException | None) -> None:
        while not abandoned.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((is_item, value), timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put(True, item)
                if abandoned.is_set():
                    return
            put(False, None)
        except BaseException as error:  # raised again where the items are used
            put(False, error)

    thread = threading.Thread(target=work, name="decoding", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = ready.get()
            if not is_item:
                if value is not None:
                    raise value
                return
            yield value
    finally:
        abandoned.set()
        thread.join()
