"""Arguments of mamba_ssm's scan, and the recurrence in float64, one step after the other."""

import naive
import torch


def make(batch=2, channels=6, length=7, states=3, B=1, C=1, dtype=torch.float64, seed=0):
    """Arguments; B and C by their number of groups, 0 for constant ones, None for three axes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, dtype=dtype):
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    exact = torch.promote_types(dtype, torch.float32)

    def side(groups):
        if groups == 0:
            return normal(channels, states, dtype=exact)
        axes = () if groups is None else (groups,)
        return normal(batch, *axes, states, length)

    return dict(
        u=normal(batch, channels, length),
        delta=normal(batch, channels, length),
        A=-normal(channels, states, dtype=exact).exp(),
        B=side(B),
        C=side(C),
        D=normal(channels, dtype=exact),
        z=normal(batch, channels, length),
        delta_bias=normal(channels, dtype=exact),
    )


def truth(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """Output and last state, in float64."""
    given = (u, delta, A, B, C, D, z, delta_bias)
    u, delta, A, B, C, D, z, bias = (None if t is None else t.double() for t in given)
    batch, channels, length = u.shape

    def at(side, b, e, t):
        if side.dim() == 2:
            return side[e]
        side = side[:, None] if side.dim() == 3 else side
        return side[b, e * side.shape[1] // channels, :, t]

    rows, states = [], []
    for b in range(batch):
        for e in range(channels):
            state, row = torch.zeros_like(A[e]), []
            for t in range(length):
                step = delta[b, e, t] + (0 if bias is None else bias[e])
                step = naive.softplus(step) if delta_softplus else step
                state = torch.exp(step * A[e]) * state + step * at(B, b, e, t) * u[b, e, t]
                y = (state * at(C, b, e, t)).sum() + (0 if D is None else D[e] * u[b, e, t])
                row.append(y if z is None else y * naive.silu(z[b, e, t]))
            rows.append(torch.stack(row) if row else u.new_zeros(0))
            states.append(state)
    return torch.stack(rows).view(u.shape), torch.stack(states).view(batch, channels, -1)


def differentiable(inputs):
    return {k: None if v is None else v.clone().requires_grad_() for k, v in inputs.items()}
