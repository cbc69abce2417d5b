"""Optimisers and the learning rate over the steps, built from ``config.optimizer``."""

from collections.abc import Mapping

import optax

from fingerprint.errors import ConfigError


def learning_rate(
    *, peak: float, final_fraction: float, warmup_steps: int, n_steps: int
) -> optax.Schedule:
    """Linear warm-up from zero, then half a cosine down to ``final_fraction * peak``.

    With w warm-up steps and progress p = (step - w) / (n_steps - w), clipped at 1:
    ``peak * (final_fraction + (1 - final_fraction) * (1 + cos(pi * p)) / 2)`` (Loshchilov and
    Hutter, arXiv 1608.03983, without restarts).

    Raises:
        ConfigError: the warm-up does not end before the training does.
    """
    if not 0 <= warmup_steps < n_steps:
        raise ConfigError(
            f"optimizer.warmup_steps is {warmup_steps} and training.n_steps {n_steps}: the "
            "warm-up has to end before the training does."
        )
    cosine = optax.cosine_decay_schedule(peak, n_steps - warmup_steps, alpha=final_fraction)
    if warmup_steps == 0:
        return cosine
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, cosine], [warmup_steps])


def build_optimizer(
    section: Mapping, n_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser that ``config.optimizer`` names, and its learning rate by step.

    "adam" is Adam (Kingma and Ba, arXiv 1412.6980) with decoupled weight decay; "lamb" is LAMB
    (You et al., arXiv 1904.00962) with the epsilon of the published NAFP code.

    Raises:
        ConfigError: another name, or a schedule that cannot be.
    """
    schedule = learning_rate(
        peak=section["learning_rate"],
        final_fraction=section["final_fraction"],
        warmup_steps=section["warmup_steps"],
        n_steps=n_steps,
    )
    weight_decay = section["weight_decay"]
    match section["name"]:
        case "adam":
            return optax.adamw(schedule, eps=1e-8, weight_decay=weight_decay), schedule
        case "lamb":
            return optax.lamb(schedule, eps=1e-6, weight_decay=weight_decay), schedule
    raise ConfigError(f"optimizer.name is {section['name']!r}: choose adam or lamb.")
