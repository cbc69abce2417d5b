import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoder_cases import count, counts, parameter_shapes, random_variables
from scipy.signal import correlate2d

from fingerprint.encoders import build_encoder
from fingerprint.encoders.attention import SpectralTemporalMask

FULL = {"name": "attention"}
TINY = {"name": "attention", "widths": (2, 4), "embedding_dim": 2, "head_units": 3}


def test_published_parameter_count():
    assert count(parameter_shapes(FULL, 64, 96)) == 19_853_568


def test_parameters_of_each_layer_are_as_published():
    params = counts(parameter_shapes(FULL, 64, 96))
    assert params.pop("conv") + params.pop("norm") == 384
    assert params == {
        "block1": 28_864,
        "block2": 68_032,
        "block3": 240_512,
        "block4": 929_536,
        "block5": 3_683_840,
        "block6": 14_697_472,
        "head": 204_928,
    }


def test_the_ablation_has_no_masks_and_nothing_else_less():
    masks = 0
    for number, width in enumerate((32, 64, 128, 256, 512, 1024)):
        masks += 2 * width * (64 + 96) // 2**number
    assert count(parameter_shapes({**FULL, "attention": False}, 64, 96)) == 19_853_568 - masks


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def mask_by_loops(x, params, scale):
    """One channel of one segment at a time, in float64."""
    out = np.zeros(x.shape)
    for b in range(x.shape[0]):
        for c in range(x.shape[3]):
            plane = x[b, :, :, c].astype(np.float64)
            per_mel = softmax(np.tanh(plane @ params["over_frames"][:, c]))
            per_frame = softmax(np.tanh(plane.T @ params["over_mels"][:, c]))
            out[b, :, :, c] = plane * scale * np.outer(per_mel, per_frame)
    return out


def test_mask_against_loops(rng):
    x = rng.standard_normal((2, 5, 7, 3)).astype(np.float32)
    params = {
        "over_frames": rng.standard_normal((7, 3)).astype(np.float32),
        "over_mels": rng.standard_normal((5, 3)).astype(np.float32),
    }
    mask = SpectralTemporalMask(scale=20.0)
    masked = mask.apply({"params": params}, x)
    np.testing.assert_allclose(masked, mask_by_loops(x, params, 20.0), atol=1e-5)
    np.testing.assert_allclose(np.sum(masked / x, axis=(1, 2)), 20.0, rtol=1e-3)
    assert mask.apply({"params": params}, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_masks_start_standard_normal():
    params = SpectralTemporalMask().init(jax.random.key(0), jnp.zeros((1, 40, 60, 50)))["params"]
    assert params["over_frames"].shape == (60, 50)
    assert params["over_mels"].shape == (40, 50)
    for values in params.values():
        assert abs(float(jnp.mean(values))) < 0.1
        assert float(jnp.std(values)) == pytest.approx(1.0, abs=0.05)


def conv_by_scipy(x, params, stride=1):
    """Cross-correlation with one zero around, then every stride-th value."""
    kernel, bias = np.asarray(params["kernel"], np.float64), params["bias"]
    edge = kernel.shape[0] // 2
    planes = np.pad(x, ((edge, edge), (edge, edge), (0, 0)))
    out = [
        sum(
            correlate2d(planes[..., c_in], kernel[..., c_in, c_out], mode="valid")
            for c_in in range(x.shape[2])
        )
        + bias[c_out]
        for c_out in range(kernel.shape[3])
    ]
    return np.stack(out, axis=-1)[::stride, ::stride]


def norm_by_numpy(x, params, stats):
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]


def network_by_numpy(mels, variables):
    """One segment ``(n_mels, n_frames)`` through TINY, layer by layer."""
    params, stats = variables["params"], variables["batch_stats"]
    x = conv_by_scipy(mels[..., None], params["conv"])
    x = np.maximum(norm_by_numpy(x, params["norm"], stats["norm"]), 0)
    for name, stride in (("block1", 1), ("block2", 2)):
        block, block_stats = params[name], stats[name]

        def mask(y, which, block=block):
            return mask_by_loops(np.maximum(y, 0)[None], block[which], 100.0)[0]

        y = conv_by_scipy(x, block["conv1"], stride)
        y = mask(norm_by_numpy(y, block["norm1"], block_stats["norm1"]), "mask1")
        y = conv_by_scipy(y, block["conv2"])
        y = norm_by_numpy(y, block["norm2"], block_stats["norm2"])
        shortcut = x if stride == 1 else conv_by_scipy(x, block["shortcut"], stride)
        x = mask(y + shortcut, "mask2")
    flat, head = x.transpose(2, 0, 1).reshape(2, -1), params["head"]
    numbers = []
    for group in range(2):
        hidden = flat[group] @ head["hidden_kernel"][group] + head["hidden_bias"][group]
        hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
        numbers.append(hidden @ head["out_kernel"][group] + head["out_bias"][group])
    numbers = np.concatenate(numbers)
    return numbers / np.linalg.norm(numbers)


def test_the_whole_network_against_numpy(rng):
    mels = rng.uniform(-1, 1, (2, 6, 7)).astype(np.float32)
    variables = random_variables(TINY, 6, 7)
    embeddings = jax.jit(build_encoder(TINY).apply)(variables, mels)
    for row in range(2):
        expected = network_by_numpy(mels[row], variables)
        np.testing.assert_allclose(embeddings[row], expected, atol=1e-4)
