"""Triton kernels of the returns family: one scan for every op of the form y_t = a_t + b_t · y_{t+1}.

A program takes a block of columns backwards over blocks of steps, each an associative scan of the maps
y -> a + b y. Where columns are few, the steps are split into chunks: a first run leaves each chunk's map, a
second one applies those of the later chunks before its own.
"""

import triton
import triton.language as tl


@triton.jit
def _compose(a1, b1, cut1, a2, b2, cut2):
    """The map y -> a2 + b2 (a1 + b1 y) of two neighbours; a cut selects 0, so that no NaN crosses it."""
    return a2 + tl.where(cut2 != 0, 0.0, b2 * a1), b2 * b1, cut2 | cut1


@triton.jit
def _at(x, x_t, x_b, t, b, inside):
    """Elements of an array, 0 outside."""
    return tl.load(x + t * x_t + b * x_b, mask=inside, other=0)


@triton.jit
def _at_most(bar, x):
    """NaN is kept."""
    return tl.where(x > bar, bar, x)


@triton.jit
def _last_row(x, row, BLOCK_T: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.sum(tl.where(row == BLOCK_T - 1, x, 0), axis=0)[None, :]


@triton.jit
def _tile(B, BLOCK_T: tl.constexpr, BLOCK_B: tl.constexpr):  # type: ignore[no-untyped-def]
    """Steps and columns of a program; along one axis of the grid, as the others end at 65,535 programs."""
    columns = tl.cdiv(B, BLOCK_B)
    t = (tl.program_id(0) // columns).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    b = (tl.program_id(0) % columns).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    return t[:, None], b[None, :]


@triton.jit
def scan_kernel(  # type: ignore[no-untyped-def]
    x0, x0_t, x0_b,
    x1, x1_t, x1_b,
    x2, x2_t, x2_b,
    x3, x3_t, x3_b,
    terminated, terminated_t, terminated_b,
    truncated, truncated_t, truncated_b,
    valid, valid_t, valid_b,
    greedy, greedy_t, greedy_b,
    out, out_t, out_b,
    maps, factors, cuts,
    gamma: tl.float64, decay: tl.float64, rho_bar: tl.float64, c_bar: tl.float64, T, B, CHUNK,
    OP: tl.constexpr, MASKED: tl.constexpr, ARRAYS: tl.constexpr, VALUES: tl.constexpr, MODE: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """y of BLOCK_B columns. x0 to x3 are the op's real arrays in order; ARRAYS: gamma and lambda are arrays,
    after the others. VALUES: next_value is absent (0), [B] (1) or [T, B] (2).

    MODE 0: all steps. MODE 1: the map of each chunk into maps, factors and cuts, [chunks, B], the last chunk
    first. MODE 2: y, after the maps of the chunks that follow.
    """
    real = out.dtype.element_ty
    gamma, decay = tl.cast(gamma, real), tl.cast(decay, real)
    row = tl.arange(0, BLOCK_T)[:, None]
    b = (tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)).to(tl.int64)[None, :]
    chunk = tl.program_id(1)
    following = tl.zeros([1, BLOCK_B], dtype=real)
    if MODE == 2:
        s = tl.arange(0, BLOCK_S)[:, None]
        before = (s < chunk) & (b < B)
        m = tl.load(maps + s * B + b, mask=before, other=0.0)
        m_f = tl.load(factors + s * B + b, mask=before, other=1.0)
        m_cut = tl.load(cuts + s * B + b, mask=before, other=0)
        m, m_f, m_cut = tl.associative_scan((m, m_f, m_cut), 0, _compose)
        following = _last_row(m, s, BLOCK_S)
    total_f = tl.full([1, BLOCK_B], 1.0, dtype=real)
    total_cut = tl.zeros([1, BLOCK_B], dtype=tl.int32)
    for behind in range(0, CHUNK, BLOCK_T):
        t = (T - 1 - chunk * CHUNK - behind - row).to(tl.int64)
        inside = (t >= 0) & (b < B)
        more = inside & (t < T - 1)
        ended = _at(terminated, terminated_t, terminated_b, t, b, inside) != 0
        last = ended | (_at(truncated, truncated_t, truncated_b, t, b, inside) != 0) | (t == T - 1)
        if MASKED:
            last = last | (_at(valid, valid_t, valid_b, t + 1, b, more) == 0)
        if OP == "gae":
            n = _at(x2, x2_t, x2_b, t, b, inside & (t == T - 1) if VALUES == 1 else inside)
            if VALUES == 1:
                n += _at(x1, x1_t, x1_b, t + 1, b, more)
            v = _at(x1, x1_t, x1_b, t, b, inside)
            a = _at(x0, x0_t, x0_b, t, b, inside) + tl.where(ended, 0.0, gamma * n) - v
            f = tl.zeros([BLOCK_T, BLOCK_B], dtype=real) + decay
        if OP == "td_lambda" or OP == "q_lambda":
            g, gl = gamma, decay
            if ARRAYS:
                g = _at(x2, x2_t, x2_b, t, b, inside)
                gl = g * _at(x3, x3_t, x3_b, t, b, inside)
            if OP == "q_lambda":
                last = last | (_at(greedy, greedy_t, greedy_b, t + 1, b, more) == 0)
            n = tl.where(last, g, g - gl) * _at(x1, x1_t, x1_b, t, b, inside)
            a = _at(x0, x0_t, x0_b, t, b, inside) + tl.where(ended, 0.0, n)
            f = tl.zeros([BLOCK_T, BLOCK_B], dtype=real) + gl
        if OP == "discounted":
            f = tl.zeros([BLOCK_T, BLOCK_B], dtype=real) + gamma
            if ARRAYS:
                f = _at(x2, x2_t, x2_b, t, b, inside)
            a = _at(x0, x0_t, x0_b, t, b, inside)
            if VALUES > 0:
                n = _at(x1, x1_t, x1_b, t, b, inside & last)
                a += tl.where(last & (ended == 0), f * n, 0.0)
        if OP == "vtrace":
            rho = tl.exp(_at(x0, x0_t, x0_b, t, b, inside))
            v = _at(x2, x2_t, x2_b, t, b, inside)
            n = _at(x3, x3_t, x3_b, t, b, inside)
            delta = _at(x1, x1_t, x1_b, t, b, inside) + tl.where(ended, 0.0, gamma * n) - v
            f = decay * _at_most(tl.cast(c_bar, real), rho)
            a = (v + _at_most(tl.cast(rho_bar, real), rho) * delta) - tl.where(last, 0.0, f * n)
        if OP == "retrace":
            rho = tl.exp(_at(x0, x0_t, x0_b, t + 1, b, more))
            n = _at(x3, x3_t, x3_b, t, b, inside)
            f = decay * _at_most(tl.cast(1.0, real), rho)
            correction = tl.where(last, 0.0, f * _at(x2, x2_t, x2_b, t + 1, b, more))
            a = (_at(x1, x1_t, x1_b, t, b, inside) + tl.where(ended, 0.0, gamma * n)) - correction
        if MASKED:
            padding = _at(valid, valid_t, valid_b, t, b, inside) == 0
            a = tl.where(padding, 0.0, a)
            last = last | padding
        a, f = tl.where(inside, a, 0.0), tl.where(inside, f, 1.0)
        cut = (last & inside).to(tl.int32)
        a, f, cut = tl.associative_scan((a, f, cut), 0, _compose)
        y = a + tl.where(cut != 0, 0.0, f * following)
        if MODE == 1:
            total_f *= _last_row(f, row, BLOCK_T)
            total_cut |= _last_row(cut, row, BLOCK_T)
        else:
            tl.store(out + t * out_t + b * out_b, y, mask=inside)
        following = _last_row(y, row, BLOCK_T)
    if MODE == 1:
        at = chunk.to(tl.int64) * B + b
        tl.store(maps + at, following, mask=b < B)
        tl.store(factors + at, total_f, mask=b < B)
        tl.store(cuts + at, total_cut, mask=b < B)


@triton.jit
def vtrace_advantage_kernel(  # type: ignore[no-untyped-def]
    x0, x0_t, x0_b,
    x1, x1_t, x1_b,
    x2, x2_t, x2_b,
    x3, x3_t, x3_b,
    terminated, terminated_t, terminated_b,
    truncated, truncated_t, truncated_b,
    valid, valid_t, valid_b,
    target, target_t, target_b,
    out, out_t, out_b,
    gamma: tl.float64, pg_rho_bar: tl.float64, T, B,
    MASKED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """V-trace's advantages from its targets; x0 to x3 are log_rho, reward, value, next_value."""
    real = out.dtype.element_ty
    t, b = _tile(B, BLOCK_T, BLOCK_B)
    inside = (t < T) & (b < B)
    more = inside & (t < T - 1)
    ended = _at(terminated, terminated_t, terminated_b, t, b, inside) != 0
    last = ended | (_at(truncated, truncated_t, truncated_b, t, b, inside) != 0) | (t == T - 1)
    if MASKED:
        last = last | (_at(valid, valid_t, valid_b, t + 1, b, more) == 0)
    n = _at(x3, x3_t, x3_b, t, b, inside)
    follows = tl.where(last, n, _at(target, target_t, target_b, t + 1, b, more))
    reward = _at(x1, x1_t, x1_b, t, b, inside)
    error = reward + tl.where(ended, 0.0, tl.cast(gamma, real) * follows) - _at(x2, x2_t, x2_b, t, b, inside)
    rho = tl.exp(_at(x0, x0_t, x0_b, t, b, inside))
    y = _at_most(tl.cast(pg_rho_bar, real), rho) * error
    if MASKED:
        y = tl.where(_at(valid, valid_t, valid_b, t, b, inside) == 0, 0.0, y)
    tl.store(out + t * out_t + b * out_b, y, mask=inside)


@triton.jit
def n_step_kernel(  # type: ignore[no-untyped-def]
    x0, x0_t, x0_b,
    x1, x1_t, x1_b,
    terminated, terminated_t, terminated_b,
    truncated, truncated_t, truncated_b,
    valid, valid_t, valid_b,
    out, out_t, out_b,
    gamma: tl.float64, N, T, B,
    MASKED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_B: tl.constexpr,
):  # fmt: skip
    """n-step returns: each from the end of its window; x0 and x1 are reward and next_value."""
    real = out.dtype.element_ty
    gamma = tl.cast(gamma, real)
    t, b = _tile(B, BLOCK_T, BLOCK_B)
    inside = (t < T) & (b < B)
    y = tl.zeros([BLOCK_T, BLOCK_B], dtype=real)
    for behind in range(0, N):
        k = t + N - 1 - behind
        here = (k < T) & (b < B)
        ended = _at(terminated, terminated_t, terminated_b, k, b, here) != 0
        last = ended | (_at(truncated, truncated_t, truncated_b, k, b, here) != 0) | (k == T - 1)
        if MASKED:
            last = last | (_at(valid, valid_t, valid_b, k + 1, b, here & (k < T - 1)) == 0)
        value = _at(x1, x1_t, x1_b, k, b, here & (last | (behind == 0)))
        follows = tl.where(last | (behind == 0), value, y)
        grown = _at(x0, x0_t, x0_b, k, b, here) + tl.where(ended, 0.0, gamma * follows)
        y = tl.where(here, grown, y)
    if MASKED:
        y = tl.where(_at(valid, valid_t, valid_b, t, b, inside) == 0, 0.0, y)
    tl.store(out + t * out_t + b * out_b, y, mask=inside)
