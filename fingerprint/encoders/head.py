"""The last layers that several networks share: divide-and-encode, unit norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class DivideAndEncode(nn.Module):
    """The projection head: each of ``d`` slices of the input becomes one number.

    Lai et al., arXiv 1504.03410, as Chang et al. use it: per slice, with weights of its own,
    a dense layer with ELU and a dense layer with one output.
    """

    embedding_dim: int
    units: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``(b, h)`` -> ``(b, d)``, with d a divisor of h."""
        d, v, u = self.embedding_dim, x.shape[-1] // self.embedding_dim, self.units
        glorot = nn.initializers.glorot_uniform(batch_axis=(0,))
        zeros = nn.initializers.zeros_init()
        hidden = jnp.einsum(
            "bdv,dvu->bdu", x.reshape(-1, d, v), self.param("hidden_kernel", glorot, (d, v, u))
        )
        hidden = nn.elu(hidden + self.param("hidden_bias", zeros, (d, u))[None])
        out = jnp.einsum("bdu,dux->bdx", hidden, self.param("out_kernel", glorot, (d, u, 1)))
        return (out + self.param("out_bias", zeros, (d, 1))[None])[:, :, 0]


def unit_norm(x: jax.Array) -> jax.Array:
    """``(b, d)`` scaled to unit norm in float32; zeros stay zeros, with a finite gradient."""
    x = x.astype(jnp.float32)
    # Inside the root: the gradient of a norm of zero would be infinite.
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)
