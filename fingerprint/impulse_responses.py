"""Impulse responses as spectra, ready to be multiplied into a window of known length."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ImpulseResponses:
    """Impulse responses with their direct path, the sample of largest magnitude, at time zero.

    Attributes:
        aligned: ``(m, n_before + 1 + n_after)`` float32; the direct paths stand in column
            ``n_before``.
        n_before: Most samples that any of them has before its direct path.
    """

    aligned: np.ndarray
    n_before: int

    @classmethod
    def align(cls, responses: np.ndarray, max_samples: int) -> "ImpulseResponses":
        """Align responses ``(m, r)``, zero-padded, and keep ``max_samples`` from the peak on."""
        direct = np.argmax(np.abs(responses), axis=1)
        last = responses.shape[1] - 1 - np.argmax(responses[:, ::-1] != 0, axis=1)
        n_before = int(direct.max())
        n_after = int(np.clip((last - direct).max(), 0, max_samples - 1))
        padded = np.pad(responses, [(0, 0), (n_before, n_after)])
        columns = direct[:, None] + np.arange(n_before + 1 + n_after)
        return cls(np.take_along_axis(padded, columns, axis=1), n_before)

    @property
    def n_after(self) -> int:
        """Most samples that any of them has after its direct path."""
        return self.aligned.shape[1] - 1 - self.n_before

    def spectra(self, n_fft: int) -> np.ndarray:
        """Spectra ``(m + 1, n_fft // 2 + 1)`` complex64; the last leaves a waveform as it is.

        A response longer than ``n_fft`` is folded, as circular convolution folds what it makes.
        """
        n_responses, length = self.aligned.shape
        n_folds = -(-length // n_fft)
        padding = [(0, 1), (0, n_folds * n_fft - length)]
        padded = np.pad(self.aligned.astype(np.float32), padding)
        padded[-1, self.n_before] = 1
        folded = padded.reshape(n_responses + 1, n_folds, n_fft).sum(axis=1)
        return np.fft.rfft(np.roll(folded, -self.n_before, axis=1))


def fft_length(n_samples: int, n_history: int, n_before: int, n_after: int) -> int:
    """Shortest fast FFT that convolves a window exactly in all samples after its history.

    The response reaches from ``-n_before`` to ``n_after``. What circular convolution folds back
    from beyond the window's end may fall on the history, which is dropped; what it folds back
    from before the window's start must fall beyond the window's end.

    Returns:
        An even number with no prime factor above 5.
    """
    needed = n_samples + max(n_before, n_after - n_history)
    length = max(needed, n_before + 1 + n_after)
    length += length % 2
    while not _is_5_smooth(length):
        length += 2
    return length


def _is_5_smooth(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1
