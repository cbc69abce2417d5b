"""Scores for synthesised music: what is played when, before a single sample is made.

A song has a tempo, a metre, a key, a tuning and instruments of its own. It runs through sections,
each with its own chords, density and choice of instruments; melody, accompaniment and fills are
drawn anew for every bar, so that any second can be told from any other, as in recorded music.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

LAYERS = ("drums", "bass", "chords", "lead")
DRUMS = ("kick", "snare", "hat")

_SCALES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # minor
    (0, 2, 3, 5, 7, 9, 10),  # dorian
    (0, 2, 4, 5, 7, 9, 10),  # mixolydian
    (0, 1, 3, 5, 7, 8, 10),  # phrygian
    (0, 2, 3, 5, 7, 8, 11),  # harmonic minor
)
_N_DEGREES = 7
_STEPS_PER_BEAT = 4
# Where the layers lie, in scale degrees above the tonic of the song.
_BASS, _CHORDS, _LEAD = -_N_DEGREES, _N_DEGREES, 2 * _N_DEGREES
# Around this tempo more songs lie than around any other, and trackers of beats expect them.
_MEDIAN_TEMPO_BPM = 115.0


@dataclasses.dataclass(frozen=True)
class Voice:
    """How one instrument sounds.

    Attributes:
        kind: "additive", "fm" or "pluck".
        partials: ``(n_partials,)`` amplitudes from the fundamental on.
        damping_per_s: partial k decays k times as fast.
        attack_s: time to full level.
        vibrato_hz: rate of the vibrato.
        vibrato_depth: its depth relative to the frequency.
        detune: frequency ratio of a second, beating copy; 1 for none.
        fm_ratio: modulator's frequency relative to the carrier's.
        fm_index: strength of the modulation at the start of a note.
    """

    kind: str
    partials: np.ndarray
    damping_per_s: float
    attack_s: float
    vibrato_hz: float
    vibrato_depth: float
    detune: float
    fm_ratio: float
    fm_index: float

    @classmethod
    def draw(cls, rng: np.random.Generator, layer: str) -> "Voice":
        """Draw an instrument for a layer."""
        order = np.arange(1, 13)
        rolloff = rng.uniform(1.0, 2.0) if layer == "bass" else rng.uniform(0.5, 1.6)
        partials = rng.uniform(0.2, 1.0, len(order)) / order**rolloff
        if rng.random() < 0.3:
            partials[1::2] *= 0.1  # hollow, as a clarinet is
        return cls(
            kind=str(rng.choice(["additive", "additive", "fm", "pluck"])),
            partials=partials / partials.sum(),
            damping_per_s=rng.choice([0.2, rng.uniform(0.5, 4.0)]),
            attack_s=rng.uniform(0.005, 0.1 if layer == "chords" else 0.03),
            vibrato_hz=rng.uniform(4.0, 7.0),
            vibrato_depth=rng.choice([0.0, rng.uniform(0.001, 0.008)]),
            detune=2.0 ** (rng.choice([0.0, rng.uniform(4.0, 20.0)]) / 1200.0),
            fm_ratio=rng.choice([0.5, 1.0, 2.0, 3.0, rng.uniform(1.2, 3.8)]),
            fm_index=rng.uniform(0.5, 4.0),
        )


@dataclasses.dataclass(frozen=True)
class Song:
    """What holds from a track's first second to its last.

    Attributes:
        tempo_bpm: beats per minute.
        beats_per_bar: 3 or 4.
        tonic_hz: the key, in any tuning.
        scale: ``(7,)`` semitones above the tonic.
        swing: by what part of a step every other step is late.
        voices: an instrument for each layer but the drums.
        echo_beats: delay of the echo.
        echo_gain: its level, 0 to 1.
    """

    tempo_bpm: float
    beats_per_bar: int
    tonic_hz: float
    scale: tuple[int, ...]
    swing: float
    voices: dict[str, Voice]
    echo_beats: float
    echo_gain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Song":
        """Draw a song."""
        return cls(
            tempo_bpm=_MEDIAN_TEMPO_BPM * 2.0 ** rng.uniform(-0.5, 0.5),
            beats_per_bar=int(rng.choice([3, 4, 4, 4])),
            tonic_hz=110.0 * 2.0 ** rng.uniform(-0.5, 0.5),
            scale=_SCALES[rng.integers(len(_SCALES))],
            swing=rng.choice([0.0, 0.0, rng.uniform(0.1, 0.4)]),
            voices={layer: Voice.draw(rng, layer) for layer in LAYERS[1:]},
            echo_beats=rng.choice([0.5, 0.75, 1.0, 1.5]),
            echo_gain=rng.uniform(0.0, 0.45),
        )

    @property
    def beat_s(self) -> float:
        """Duration of a beat."""
        return 60.0 / self.tempo_bpm

    @property
    def n_steps(self) -> int:
        """Steps in a bar; a step is the shortest note."""
        return self.beats_per_bar * _STEPS_PER_BEAT

    def time_s(self, step: float) -> float:
        """When a step of a bar is played, after the start of the bar."""
        return (step + self.swing * (step % 2 == 1)) * self.beat_s / _STEPS_PER_BEAT

    def frequency_hz(self, degree: int) -> float:
        """Pitch of a scale degree, which may lie octaves away on either side."""
        octave, step = divmod(int(degree), _N_DEGREES)
        return self.tonic_hz * 2.0 ** (octave + self.scale[step] / 12.0)


@dataclasses.dataclass(frozen=True)
class Note:
    """One sound of a score.

    Attributes:
        layer: one of ``LAYERS``.
        pitch: a scale degree, or for drums the number of the piece in ``DRUMS``.
        start_s: after the start of the track.
        duration_s: until the sound is let go.
        velocity: amplitude, 0 to 1.
    """

    layer: str
    pitch: int
    start_s: float
    duration_s: float
    velocity: float


@dataclasses.dataclass(frozen=True)
class _Section:
    """A few bars with the same instruments, density and patterns."""

    chords: np.ndarray  # (n_bars,) scale degrees of the roots
    layers: frozenset[str]
    lead_density: float
    bass_density: float
    arpeggio: bool
    drums: np.ndarray  # (3, n_steps) probabilities of a hit

    @classmethod
    def draw(cls, rng: np.random.Generator, song: Song) -> "_Section":
        # Drums and bass alone would sound the same again and again.
        layers = {str(rng.choice(["chords", "lead"]))}
        return cls(
            chords=rng.permutation(_N_DEGREES)[: rng.integers(2, 5)],
            layers=frozenset(layers | {layer for layer in LAYERS if rng.random() < 0.75}),
            lead_density=rng.uniform(0.25, 0.7),
            bass_density=rng.uniform(0.2, 0.5),
            arpeggio=rng.random() < 0.4,
            drums=_draw_drum_pattern(rng, song),
        )


def compose(rng: np.random.Generator, song: Song, duration_s: float) -> Iterator[Note]:
    """Write the notes of a song, bar by bar, until the time is over."""
    bar_s = song.time_s(song.n_steps)
    start_s = 0.0
    while start_s < duration_s:
        section = _Section.draw(rng, song)
        for chord in section.chords:
            for layer in LAYERS:
                if layer in section.layers:
                    for step, n_steps, pitch, velocity in _BARS[layer](rng, song, section, chord):
                        at_s = song.time_s(step)
                        length_s = song.time_s(step + n_steps) - at_s
                        yield Note(layer, int(pitch), start_s + at_s, length_s, velocity)
            start_s += bar_s


# The bars of the layers: (first step, number of steps, pitch, velocity) of every note.
_BarNotes = Iterator[tuple[int, float, int, float]]


def _drum_bar(rng: np.random.Generator, song: Song, section: _Section, chord: int) -> _BarNotes:
    hits = rng.random(section.drums.shape) < section.drums
    for piece, step in np.argwhere(hits):
        yield step, 1, piece, rng.uniform(0.5, 1.0)


def _bass_bar(rng: np.random.Generator, song: Song, section: _Section, chord: int) -> _BarNotes:
    for step, n_steps in _rhythm(rng, song, section.bass_density):
        degree = chord + rng.choice([0, 0, 0, 2, 4, _N_DEGREES])
        yield step, n_steps, _BASS + degree, rng.uniform(0.7, 1.0)


def _chord_bar(rng: np.random.Generator, song: Song, section: _Section, chord: int) -> _BarNotes:
    # The seventh joins now and then, and every tone finds its own octave.
    tones = np.array([0, 2, 4, 6])[: rng.integers(3, 5)] + chord
    tones += rng.choice([-_N_DEGREES, 0, 0], len(tones))
    if section.arpeggio:
        for step in range(0, song.n_steps, 2):
            yield step, 2.5, _CHORDS + rng.choice(tones), rng.uniform(0.4, 0.8)
        return
    for step, n_steps in _rhythm(rng, song, 0.12):
        velocity = rng.uniform(0.3, 0.5)
        for tone in tones:
            yield step, n_steps, _CHORDS + tone, velocity


def _lead_bar(rng: np.random.Generator, song: Song, section: _Section, chord: int) -> _BarNotes:
    degree = chord + rng.choice([0, 2, 4])
    for step, n_steps in _rhythm(rng, song, section.lead_density):
        if rng.random() < 0.85:
            yield step, n_steps * rng.uniform(0.6, 1.0), _LEAD + degree, rng.uniform(0.5, 1.0)
        degree += rng.choice([-3, -2, -1, -1, 1, 1, 2, 4])
        degree = min(max(degree, -_N_DEGREES), 2 * _N_DEGREES)


_BARS = {"drums": _drum_bar, "bass": _bass_bar, "chords": _chord_bar, "lead": _lead_bar}


def _rhythm(rng: np.random.Generator, song: Song, density: float) -> Iterator[tuple[int, int]]:
    """Starts and lengths, in steps, of notes that fill a bar; beats are likelier than the rest."""
    likelihood = np.full(song.n_steps, density)
    likelihood[::_STEPS_PER_BEAT] = np.sqrt(density)
    starts = np.flatnonzero(rng.random(song.n_steps) < likelihood)
    if len(starts) == 0:
        starts = np.array([0])
    yield from zip(starts, np.diff(starts, append=song.n_steps), strict=True)


def _draw_drum_pattern(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Probabilities of a hit, ``(3, n_steps)``: kick on one, snare against it, hats between."""
    pattern = rng.choice([0.0, 0.05, 0.3], size=(len(DRUMS), song.n_steps), p=[0.7, 0.2, 0.1])
    beats = np.arange(song.beats_per_bar) * _STEPS_PER_BEAT
    pattern[0, beats[::2]] = 0.95
    pattern[1, beats[1::2]] = 0.9
    pattern[2, :: rng.choice([1, 2, 2, 4])] = rng.uniform(0.5, 0.95)
    return pattern
