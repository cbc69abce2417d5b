"""The whole job in a few minutes of two CPU cores, on music that is synthesised as it goes.

A small encoder trains, recordings that it has never heard are fingerprinted and indexed, and
clips of them in noise and rooms are identified, beside the landmark baseline on the same clips.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
from fingerprint_configs import demo as demo_config
from tqdm import tqdm

from fingerprint import music_synthesis
from fingerprint.audio import read_audio
from fingerprint.evaluation.picture import draw_match
from fingerprint.evaluation.queries import Query, Surroundings, make_queries
from fingerprint.evaluation.run import Request, evaluate
from fingerprint.landmark_recognizer import LandmarkRecognizer
from fingerprint.neural_recognizer import NeuralRecognizer
from fingerprint.recognizer import Recognizer

N_RECORDINGS = 120
RECORDING_S = 30.0
SAMPLE_RATE_HZ = 16_000
DURATIONS_S = (1.0, 2.0, 3.0, 5.0, 10.0)
SNR_DB = 5.0
N_QUERIES = 60
# The clip that is shown.
CLIP_S = 8.0
CLIP_SNR_DB = 10.0
# Training counts its seeds from 0: nothing that it heard is heard again here.
FIRST_UNHEARD_SEED = 1_000_000


def run(workdir: str | Path, seed: int = 0) -> None:
    """Train, index, identify; print a table of top-1 and draw one match.

    Args:
        workdir: Folder for everything that is made; a second run goes on from what is there.
        seed: Of the training and of the queries.
    """
    # Loads tensorflow.
    from fingerprint.training import train

    workdir = Path(workdir)
    _say("1/4  Training a small encoder on synthesised music")
    config = demo_config.get_config()
    config.seed = seed
    model = train(config, workdir / "training")

    _say(f"2/4  Synthesising {N_RECORDINGS} recordings that it has never heard, noise and rooms")
    folders = synthesize(workdir)

    _say("3/4  Indexing them, as fingerprints in ScaNN and as landmarks")
    neural = _open_or_create(
        workdir / "neural.index",
        lambda folder: NeuralRecognizer.create(folder, model),
        NeuralRecognizer.open,
    )
    landmarks = _open_or_create(
        workdir / "landmarks.index", LandmarkRecognizer.create, LandmarkRecognizer.open
    )
    for recognizer in (neural, landmarks):
        recognizer.add_files(sorted(map(str, folders["music"].iterdir())))

    _say(f"4/4  Identifying {N_QUERIES} clips at {SNR_DB:g} dB, two thirds of them in a room")
    result = evaluate(
        Request(
            [str(neural.store.folder), str(landmarks.store.folder)],
            query_fields={
                "queries_from": str(folders["music"]),
                "noise": str(folders["noise"]),
                "room_ir": str(folders["room_ir"]),
                "durations_s": DURATIONS_S,
                "snr_db": (SNR_DB,),
                "n_queries": N_QUERIES,
                "seed": seed,
            },
            searcher="scann",
        )
    )
    print(top1_table(result))
    _show_one_match(workdir, neural, folders, seed)


def synthesize(workdir: Path) -> dict[str, Path]:
    """Write recordings, noise and rooms as audio files, unless they are there.

    Returns:
        The folders of "music", "noise" and "room_ir".
    """
    seeds = range(FIRST_UNHEARD_SEED, FIRST_UNHEARD_SEED + N_RECORDINGS)

    def music(seed: int) -> np.ndarray:
        return music_synthesis.synthesize_track(seed, RECORDING_S, SAMPLE_RATE_HZ)

    def noise(seed: int) -> np.ndarray:
        return music_synthesis.synthesize_noise(seed, 2 * max(DURATIONS_S), SAMPLE_RATE_HZ)

    def room(seed: int) -> np.ndarray:
        t60_s = np.random.default_rng(seed).uniform(0.2, 0.8)
        return music_synthesis.synthesize_room(seed, t60_s, SAMPLE_RATE_HZ)

    return {
        "music": _write_all(workdir / "recordings", music, seeds),
        "noise": _write_all(workdir / "noise", noise, seeds[:20]),
        "room_ir": _write_all(workdir / "rooms", room, seeds[:20]),
    }


def top1_table(result: dict) -> str:
    """Top-1 by query length, one column for each index of an `evaluate` result."""
    names = [each["system"] for each in result["systems"]]
    shares = {(row["system"], row["duration_s"]): row["top1"] for row in result["results"]}
    lines = [
        "",
        "Right recording in first place (top-1), with the 95 % interval:",
        "",
        "  length  " + "".join(f"{name:>22}" for name in names),
    ]
    for duration_s in DURATIONS_S:
        cells = (shares[name, duration_s] for name in names)
        lines.append(
            f"  {duration_s:4g} s  "
            + "".join(
                f"{100 * c['rate']:9.1f} % [{100 * c['low']:3.0f}, {100 * c['high']:3.0f}]"
                for c in cells
            )
        )
    return "\n".join(lines)


def _show_one_match(workdir: Path, neural: Recognizer, folders: dict[str, Path], seed: int) -> None:
    query = next(_clips(folders, seed))
    clip = query.first(CLIP_S)
    soundfile.write(workdir / "clip.wav", clip, query.sample_rate_hz)
    print(
        f"\n{workdir / 'clip.wav'} was made from {query.path}, second {query.start_s:.2f} on.\n"
        f"$ fingerprint query {neural.store.folder} {workdir / 'clip.wav'} --top_k 1"
    )
    answer = neural.identify_file(workdir / "clip.wav", top_k=1)
    if not answer.matches:
        print("  nothing like it was found")
        return
    best = answer.matches[0]
    print(
        f"  {answer.verdict.replace('_', ' ')}: {best.track} from second "
        f"{best.reference_start_s:.2f} on, score {best.score:.3f}"
    )
    samples = read_audio(workdir / "clip.wav", neural.sample_rate_hz)
    draw_match(workdir / "match.png", neural.fingerprinter, neural.store, samples, best)
    print(f"The match as a picture: {workdir / 'match.png'}")


def _clips(folders: dict[str, Path], seed: int) -> Iterable[Query]:
    music, noise, rooms = (
        sorted(map(str, folders[kind].iterdir())) for kind in ("music", "noise", "room_ir")
    )
    return make_queries(
        music,
        Surroundings(noise, rooms, room_share=1.0),
        n_queries=1,
        durations_s=(CLIP_S,),
        snrs_db=(CLIP_SNR_DB,),
        seed=seed,
        sample_rate_hz=SAMPLE_RATE_HZ,
    )


def _write_all(folder: Path, sound: Callable[[int], np.ndarray], seeds: Iterable[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in tqdm(seeds, folder.name, unit="file"):
        path = folder / f"{folder.name}_{seed - FIRST_UNHEARD_SEED:03d}.wav"
        if not path.exists():
            samples = sound(seed)
            unfinished = path.with_suffix(".part")
            soundfile.write(
                unfinished, samples / np.abs(samples).max(), SAMPLE_RATE_HZ, format="WAV"
            )
            unfinished.rename(path)
    return folder


def _open_or_create(folder: Path, create: Callable, open_: Callable) -> Recognizer:
    return open_(folder) if folder.exists() else create(folder)


def _say(stage: str) -> None:
    print(f"\n==== {stage}", flush=True)
