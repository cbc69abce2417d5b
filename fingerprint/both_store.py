"""The store of an index by two methods: fingerprints, and landmarks of the same tracks within.

    store.json, data-G/ ...  the fingerprints, as `store` describes; the method is "both"
    model/                   what made them
    landmarks/               a store of landmarks of its own

A track is written to the landmarks first and removed from them last, and whoever writes holds the
lock of the landmarks meanwhile. So the tracks of the outer store are those that are in both, at
whatever moment a writer was killed; what is in the landmarks alone is unfinished and counts as not
there.
"""

from collections.abc import Iterable

from fingerprint.identification import remove_tracks
from fingerprint.store import Store, StoreError, StoreWriter

METHOD = "both"
LANDMARKS_FOLDER = "landmarks"


def is_both(store: Store) -> bool:
    """Whether a store is one of two methods."""
    return store.recognizer.get("method") == METHOD


def open_landmarks(store: Store) -> Store:
    """The landmarks within the store of two methods.

    Raises:
        StoreError: they are missing or damaged.
    """
    landmarks = Store.open(store.folder / LANDMARKS_FOLDER)
    if landmarks.recognizer.get("method") != "landmarks":
        raise StoreError(
            f"{store.folder} is damaged: what {LANDMARKS_FOLDER} in it holds are no landmarks; "
            "build it anew."
        )
    return landmarks


def remove_from_both(
    store: Store, landmarks: Store, tracks: Iterable[str]
) -> tuple[list[str], list[str]]:
    """As `remove_tracks`, and what is unfinished goes too."""
    with landmarks.writer() as writer:
        answer = remove_tracks(store, tracks)
        remove_unfinished(store, landmarks, writer)
    return answer


def remove_unfinished(
    store: Store, landmarks: Store, writer: StoreWriter, keep: Iterable[str] = ()
) -> None:
    """Remove the tracks that are in the landmarks alone, but for those to ``keep``."""
    wanted = {track.name for track in store.tracks} | set(keep)
    writer.remove({track.name for track in landmarks.tracks} - wanted)


def verify(store: Store) -> None:
    """Compare every row of both with its checksum, and the tracks of the one with the other's.

    Raises:
        StoreError: rows are not what was written, or a track has no landmarks.
    """
    landmarks = open_landmarks(store)
    store.verify()
    landmarks.verify()
    with_landmarks = {track.name for track in landmarks.tracks}
    for track in store.tracks:
        if track.name not in with_landmarks:
            raise StoreError(
                f"{store.folder} is damaged: track {track.name!r} has no landmarks; remove the "
                "track and add it again."
            )


def describe_landmarks(store: Store) -> dict:
    """Preset, rows and bytes of the landmarks, as JSON-able facts."""
    landmarks = open_landmarks(store)
    return {
        "preset": landmarks.recognizer.get("preset"),
        "rows": landmarks.n_rows,
        "bytes": sum(landmarks.column(name).nbytes for name in landmarks.columns),
    }
