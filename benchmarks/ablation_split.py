"""Carve a validation split out of the train split, so that nothing is tuned on the test split.

    python benchmarks/ablation_split.py AUDIO OUT

AUDIO is a folder with a manifest.csv (columns path, kind, split). OUT becomes a collection of its
train files alone, of which an eighth of the music and a fifth of noise, rooms and devices are the
new "test". All whose names begin with the same word stay together: other microphones in one room,
settings of one amplifier, arrangements of one piece. Which, a hash of that word decides, so that
each file stays where it is when others come.
"""

import argparse
import csv
import hashlib
import re
import sys
from pathlib import Path

HELD_OUT_SHARE = {"music": 1 / 8}
OTHER_SHARE = 1 / 5
FILES = "files"


def group_of(path: str) -> str:
    """What a file belongs to: "COLLECTION__First-word-of-the-name" in lower case."""
    *collection, name = Path(path).stem.lower().split("__", 1)
    first_word = re.match(r"[^\W_]*", name)[0]
    return "__".join([*collection, first_word])


def is_held_out(path: str, kind: str) -> bool:
    """Whether a train file is one of the new test files."""
    digest = hashlib.sha256(f"{kind} {group_of(path)}".encode()).digest()
    value = int.from_bytes(digest[:8], "big") / 2**64
    return value < HELD_OUT_SHARE.get(kind, OTHER_SHARE)


def carve(audio: Path, out: Path) -> dict[tuple[str, str], int]:
    """Write the new collection, whose files are those of the old one behind a link.

    Returns:
        How many files there are of each (kind, split).
    """
    with open(audio / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    out.mkdir(parents=True, exist_ok=True)
    if not (out / FILES).is_symlink():
        (out / FILES).symlink_to(audio.resolve(), target_is_directory=True)
    counts: dict[tuple[str, str], int] = {}
    with open(out / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "kind", "split"])
        for row in rows:
            split = "test" if is_held_out(row["path"], row["kind"]) else "train"
            writer.writerow([f"{FILES}/{row['path']}", row["kind"], split])
            counts[row["kind"], split] = counts.get((row["kind"], split), 0) + 1
    return counts


def main() -> int:
    """Carve, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", type=Path, metavar="AUDIO")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    for (kind, split), n in sorted(carve(options.audio, options.out).items()):
        print(f"{kind:10s} {split:6s} {n:4d}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
