"""A GRU over sequences whose state is reset inside: torch's own runs as many small operations on the CPU."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def gru(
    x: torch.Tensor, u: torch.Tensor, c: torch.Tensor, state: torch.Tensor, start: torch.Tensor
) -> torch.Tensor:
    """Hidden states [T, B, H] of a GRU (Cho et al. 2014, as torch.nn.GRU writes it).

    r, z = sigmoid(x_rz + U_rz h + c_rz), n = tanh(x_n + r (U_n h + c_n)), h' = n + z (h - n); h is zero
    before a step with ``start``. Differentiable once.

    Args:
        x: [T, B, 3 H]: the input's part of r, z and n.
        u: [3 H, H]: weights of h.
        c: [3 H]: their biases.
        state: [B, H], before the first step.
        start: bool [T, B].
    """
    hidden: torch.Tensor = _GRU.apply(x, u, c, state, start)  # type: ignore[no-untyped-call]
    return hidden


class _GRU(torch.autograd.Function):
    # The loop back holds only what depends on the next step: the gates' derivatives with respect to h' are
    # computed for all steps together.

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, u: torch.Tensor, c: torch.Tensor, state: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        width = u.shape[1]
        before, hidden, new = (torch.empty_like(x[..., :width]) for _ in range(3))
        gates, product = torch.empty_like(x[..., width:]), torch.empty_like(x)
        blocks = (
            x[..., : 2 * width], x[..., 2 * width :], before, gates, gates[..., :width], gates[..., width:],
            product, product[..., : 2 * width], product[..., 2 * width :], new, hidden, start,
        )  # fmt: skip
        resets, ut, h = start.any(1).tolist(), u.t(), state
        views = zip(*(block.unbind(0) for block in blocks), strict=True)
        for reset, (x_rz, x_n, h_t, rz, r, z, p, p_rz, p_n, n, out, begins) in zip(
            resets, views, strict=True
        ):
            h_t.copy_(h)
            if reset:
                h_t.masked_fill_(begins[:, None], 0.0)
            torch.addmm(c, h_t, ut, out=p)
            torch.add(x_rz, p_rz, out=rz).sigmoid_()
            torch.addcmul(x_n, r, p_n, out=n).tanh_()
            h = torch.lerp(n, h_t, z, out=out)
        ctx.save_for_backward(u, before, gates, new, product[..., 2 * width :], start)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, before, gates, new, product, start = ctx.saved_tensors
        r, z = gates.chunk(2, -1)
        d_n = (1 - z) * (1 - new * new)  # of the pre-activations, for each dL/dh'
        d_r = d_n * product * r * (1 - r)
        d_z = (before - new) * z * (1 - z)
        slopes = torch.stack([d_r, d_z, d_n * r], 2)
        d_hidden, d_product = torch.empty_like(new), torch.empty_like(slopes)
        blocks = dy, z, slopes, d_hidden, d_product, d_product.flatten(2), start
        resets, dh = start.any(1).tolist(), torch.zeros_like(new[0])
        views = zip(*(reversed(block.unbind(0)) for block in blocks), strict=True)
        for reset, (dy_t, z_t, slope, now, d_gates, d_p, begins) in zip(reversed(resets), views, strict=True):
            torch.add(dh, dy_t, out=now)
            torch.mul(slope, now[:, None], out=d_gates)
            dh = torch.addmm(now * z_t, d_p, u)
            if reset:
                dh.masked_fill_(begins[:, None], 0.0)
        rows = d_product.flatten(2).flatten(0, 1)
        dx = torch.cat([d_product[:, :, 0], d_product[:, :, 1], d_hidden * d_n], -1)
        return dx, rows.t() @ before.flatten(0, 1), rows.sum(0), dh, None
