"""How long a room rings: the reverberation time of an impulse response."""

import numpy as np

_BLOCK_S = 0.01
# (the decay is fitted down to this level, what the response must show of it above its noise):
# T30 where 45 dB are there, else T20; 10 dB of margin as in ISO 3382-1.
_FITS_DB = ((-35.0, 45.0), (-25.0, 35.0))
_FIT_STARTS_DB = -5.0


def reverberation_time_s(response: np.ndarray, sample_rate_hz: int) -> float | None:
    """Seconds in which sound in a room decays by 60 dB (t60, T30 or T20 of ISO 3382-1).

    The decay is the energy that is still to come (backward integration, Schroeder 1965) less
    that of the background noise, which the last tenth of the response is taken for (Chu 1978);
    a line is fitted to it from -5 to -35 dB, or to -25 dB where noise hides the rest.

    Args:
        response: impulse response ``(n,)``.

    Returns:
        None where the response is too short or too noisy for a fit, as that of a device is.
    """
    direct = int(np.argmax(np.abs(response)))
    energy = np.square(response[direct:], dtype=np.float64)
    n_block = max(1, round(_BLOCK_S * sample_rate_hz))
    if len(energy) < 10 * n_block:
        return None
    floor = np.mean(energy[-len(energy) // 10 :])
    blocks = energy[: len(energy) // n_block * n_block].reshape(-1, n_block).mean(axis=1)
    range_db = 10 * np.log10(blocks.max() / floor) if floor > 0 else np.inf
    decay = np.cumsum((energy - floor)[::-1])[::-1]
    ends = int(np.argmax(decay <= 0)) if np.any(decay <= 0) else len(decay)
    decay_db = 10 * np.log10(decay[:ends] / decay[0])
    for fit_ends_db, needed_db in _FITS_DB:
        fitted = np.flatnonzero((decay_db <= _FIT_STARTS_DB) & (decay_db >= fit_ends_db))
        if range_db >= needed_db and len(fitted) > 1 and decay_db.min() < fit_ends_db:
            slope_db, _ = np.polyfit(fitted / sample_rate_hz, decay_db[fitted], 1)
            return float(-60 / slope_db) if slope_db < 0 else None
    return None
