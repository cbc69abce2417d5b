import numpy as np
import pytest
from scipy.signal import fftconvolve

from fingerprint.impulse_responses import ImpulseResponses, fft_length


def decaying(rng, direct, length, padded):
    response = 0.5 * rng.uniform(-1, 1, length) * np.exp(-np.arange(length) / 100)
    response[direct] = -1.0
    return np.pad(response, (0, padded - length)).astype(np.float32)


@pytest.fixture
def responses(rng):
    """Direct paths at different places, tails of different lengths, zero-padded to one shape."""
    return np.stack(
        [decaying(rng, 0, 900, 1000), decaying(rng, 40, 700, 1000), decaying(rng, 7, 8, 1000)]
    )


def test_direct_paths_are_aligned_and_padding_is_dropped(responses):
    aligned = ImpulseResponses.align(responses, 2000)
    assert (aligned.n_before, aligned.n_after) == (40, 899)
    assert aligned.aligned[:, 40].tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(aligned.aligned[1, : 40 + 660], responses[1, :700])
    assert np.count_nonzero(aligned.aligned[2, 41:]) == 0


def test_tail_is_cut_after_the_direct_path(responses):
    aligned = ImpulseResponses.align(responses, 100)
    assert (aligned.n_before, aligned.n_after) == (40, 99)
    np.testing.assert_array_equal(aligned.aligned[1, 40:], responses[1, 40:140])


@pytest.mark.parametrize("n_history", [0, 300, 1000])
@pytest.mark.parametrize("max_samples", [1, 200, 1000])
def test_product_of_spectra_is_the_linear_convolution(responses, rng, n_history, max_samples):
    window = rng.normal(size=1600)
    aligned = ImpulseResponses.align(responses, max_samples)
    n_fft = fft_length(1600, n_history, aligned.n_before, aligned.n_after)
    spectra = aligned.spectra(n_fft)
    assert spectra.dtype == np.complex64
    convolved = np.fft.irfft(np.fft.rfft(window, n_fft) * spectra, n_fft)[:, n_history:1600]
    for row, response in zip(convolved, responses, strict=False):
        direct = np.argmax(np.abs(response))
        whole = fftconvolve(window, response[: direct + max_samples])
        np.testing.assert_allclose(row, whole[direct:][n_history:1600], atol=2e-5)
    np.testing.assert_allclose(convolved[-1], window[n_history:], atol=1e-6)


def test_fft_of_a_tail_within_the_history_is_no_longer_than_the_window():
    assert fft_length(16000, 8000, 0, 8000) == 16000
    assert fft_length(16000, 8000, 1, 8000) == 16200
    assert fft_length(16000, 8000, 0, 8201) >= 16201
    assert fft_length(100, 0, 60, 300) >= 400


@pytest.mark.parametrize("n_samples", [1, 7, 1001, 16001, 88001])
def test_fft_length_is_the_next_even_product_of_2_3_and_5(n_samples):
    products = {2**a * 3**b * 5**c for a in range(1, 18) for b in range(11) for c in range(8)}
    assert fft_length(n_samples, 0, 0, 0) == min(n for n in products if n >= n_samples)


def test_longer_than_the_fft_a_response_is_folded(responses, rng):
    window = rng.normal(size=300)
    aligned = ImpulseResponses.align(responses, 2000)
    convolved = np.fft.irfft(np.fft.rfft(window) * aligned.spectra(300), 300)
    for row, response in zip(convolved, responses, strict=False):
        direct = np.argmax(np.abs(response))
        expected = sum(response[i] * np.roll(window, i - direct) for i in np.flatnonzero(response))
        np.testing.assert_allclose(row, expected, atol=1e-4)
