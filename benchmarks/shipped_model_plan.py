"""What the shipped model is asked, and who else is asked the same: nothing but data.

Every set has a name, and fields of `QuerySettings`, in which "audio" stands for the collection.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

SEED = 20
MAIN, REFERENCES = "main", "references"
# The system that a network is compared with.
NAFP = "nafp"
MAIN_LENGTHS_S, ROBUST_LENGTHS_S = (1.0, 2.0, 3.0, 5.0, 10.0), (3.0, 5.0, 10.0)
# The start of a hit is right to so much.
START_TOLERANCE_S = 0.05


@dataclasses.dataclass(frozen=True)
class Set:
    """Queries of one kind.

    Attributes:
        name: of its folder.
        title: in tables.
        fields: of `QuerySettings`.
        database: which databases they are put to.
        durations_s: lengths to ask.
        n_queries: excerpts.
        unknown: whether as many are asked that no database holds.
    """

    name: str
    title: str
    fields: Mapping[str, Any]
    database: str = REFERENCES
    durations_s: Sequence[float] = ROBUST_LENGTHS_S
    n_queries: int = 200
    unknown: bool = False


@dataclasses.dataclass(frozen=True)
class System:
    """Who is asked.

    Attributes:
        name: in tables.
        method: of `recognizer.create_or_open`.
        preset: likewise.
        model: "shipped" or "nafp", a model of the command line; "" for none.
    """

    name: str
    method: str
    preset: str | None = None
    model: str = ""

    @property
    def is_landmark_preset(self) -> bool:
        """Whether it is one of those whose best one every system is compared with."""
        return self.method == "landmarks"


SYSTEMS = (
    System("shipped", "neural", model="shipped"),
    System("both", "both", model="shipped"),
    System(NAFP, "neural", model="nafp"),
    System("landmarks", "landmarks", preset="default"),
    System("wang", "landmarks", preset="wang"),
    System("audfprint", "landmarks", preset="audfprint"),
    System("dejavu", "landmarks", preset="dejavu"),
    System("spectral_hash", "spectral_hash"),
)


def noise(snr_db: float, **more: Any) -> dict[str, Any]:
    """Noise of the collection at a ratio, and nothing else that is not named."""
    return {"noise": "audio", "snr_db": (snr_db,)} | more


def phone(snr_db: float, **more: Any) -> dict[str, Any]:
    """Everything at once: loudspeaker, room, noise and voices at the telephone, and its own steps.

    The room rings with the music alone: noise, and the hiss of the telephone, is where it stands.
    """
    fields = {"room_ir": "audio", "room_share": 1.0, "reverberate": "music", "n_noises": 2}
    fields |= {"high_pass_hz": (150.0,), "gain_control": True}
    return noise(snr_db, **(fields | more))


# The first is the nearest to real telephone recordings, of which spectral hashing, Dejavu and
# audfprint find 83, 69 and 42 to 67 % at 10 s: of 42 such queries of the train split, among 200
# excerpts of 30 s, they found 78, 54 and 38 % here (61, 38 and 26 % of the second kind).
PHONES = (
    Set("phone_1", "phone in a room, mild",
        phone(10.0, babble_db=(6.0,), equaliser_db=(3.0,), suppression=(0.4,),
              codec=("opus:32",))),
    Set("phone_2", "phone in a room, medium",
        phone(8.0, babble_db=(0.0,), equaliser_db=(4.0,), suppression=(0.6,),
              codec=("opus:24",))),
    Set("phone_3", "phone in a room, severe",
        phone(2.0, babble_db=(-3.0,), equaliser_db=(6.0,), suppression=(0.9,),
              codec=("opus:16",))),
)  # fmt: skip
ROBUST = (
    Set("quiet", "noise at 20 dB", noise(20.0)),
    Set("snr_5", "noise at 5 dB", noise(5.0)),
    Set("snr_0", "noise at 0 dB", noise(0.0)),
    Set("snr_-5", "noise at -5 dB", noise(-5.0)),
    Set("snr_-10", "noise at -10 dB", noise(-10.0)),
    Set("babble_0", "six voices at 0 dB, two noises at 5 dB",
        noise(5.0, n_noises=2, babble_db=(0.0,))),
    Set("babble_-8", "six voices at -8 dB, noise at 20 dB", noise(20.0, babble_db=(-8.0,))),
    Set("band", "300 to 3,400 Hz, noise at 10 dB",
        noise(10.0, high_pass_hz=(300.0,), low_pass_hz=(3400.0,))),
    Set("mp3_64", "MP3 at 64 kbit/s, noise at 10 dB", noise(10.0, codec=("mp3:64",))),
    Set("opus_16", "Opus at 16 kbit/s, noise at 10 dB", noise(10.0, codec=("opus:16",))),
    Set("clipping", "5 % of the samples clipped, noise at 10 dB",
        noise(10.0, clipped_share=(0.05,))),
    Set("gain", "automatic gain, noise at 10 dB", noise(10.0, gain_control=True)),
    Set("slower", "2 % slower, noise at 10 dB", noise(10.0, speed=(0.98,))),
    Set("faster", "2 % faster, noise at 10 dB", noise(10.0, speed=(1.02,))),
    Set("far_field", "long room, peak at -30 dB, noise at 5 dB",
        noise(5.0, room_ir="audio", t60_s=(1.5,), reverberate="music", level_db=(-30.0,))),
    *PHONES,
)  # fmt: skip
SETS = (
    Set(
        MAIN,
        "noise at 0 to 10 dB, rooms, devices, filters, drawn for each query",
        {
            "noise": "audio",
            "snr_range_db": (0.0, 10.0),
            "room_ir": "audio",
            "room_share": 2 / 3,
            "device_ir": "audio",
            "device_share": 1 / 3,
            "equaliser_db": (2.0,),
            "band_share": (0.3,),
        },
        database=MAIN,
        durations_s=MAIN_LENGTHS_S,
        n_queries=300,
        unknown=True,
    ),
    *ROBUST,
)


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is made and asked.

    Attributes:
        derived_h: hours of recordings played faster and slower.
        synthesised_h: hours of music made from a seed.
        n_queries: most excerpts of a set.
    """

    derived_h: float
    synthesised_h: float
    n_queries: int


WHOLE, QUICK = Scale(39.0, 12.0, 300), Scale(0.5, 0.2, 12)
