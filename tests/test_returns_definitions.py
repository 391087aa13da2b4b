"""The definitions of the returns family by hand, and where its ops are the same."""

import numpy as np
import pytest
from _returns import Array, make

from fastrl.kernels import discounted, gae, n_step, q_lambda, retrace, td_lambda, vtrace


def by_hand() -> dict[str, Array]:
    """One sequence: an episode that is truncated, one that terminates, and the beginning of one."""
    return {
        "reward": np.array([[1.0], [2.0], [3.0], [4.0]]),
        "terminated": np.array([[False], [False], [True], [False]]),
        "truncated": np.array([[False], [True], [False], [False]]),
        "next_value": np.array([[20.0], [7.0], [8.0], [50.0]]),
    }


def test_td_lambda_by_hand() -> None:
    cut = 2 + 0.5 * 7
    first = 1 + 0.5 * (0.2 * 20 + 0.8 * cut)
    got = td_lambda(**by_hand(), gamma=0.5, lam=0.8, backend="reference")
    np.testing.assert_allclose(got[:, 0], [first, cut, 3, 4 + 0.5 * 50])


def test_discounted_by_hand() -> None:
    data = by_hand()
    got = discounted(**data, gamma=0.5, backend="reference")
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * 5.5, 5.5, 3, 4 + 25])
    del data["next_value"]
    got = discounted(**data, gamma=0.5, backend="reference")
    np.testing.assert_allclose(got[:, 0], [2, 2, 3, 4])


def test_n_step_by_hand() -> None:
    got = n_step(**by_hand(), gamma=0.5, n=2, backend="reference")
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * 2 + 0.25 * 7, 2 + 0.5 * 7, 3, 4 + 25])
    got = n_step(**by_hand(), gamma=0.5, n=1, backend="reference")
    np.testing.assert_allclose(got[:, 0], [11, 5.5, 3, 29])


def test_vtrace_by_hand() -> None:
    value = np.array([[10.0], [20.0], [30.0], [40.0]])
    log_rho = np.log([[0.5], [3.0], [1.0], [0.25]])
    target, advantage = vtrace(
        log_rho,
        value=value,
        **by_hand(),
        gamma=0.5,
        lam=0.8,
        rho_bar=2.0,
        pg_rho_bar=4.0,
        backend="reference",
    )
    last = 40 + 0.25 * (4 + 25 - 40)
    cut = 20 + 2 * (2 + 3.5 - 20)
    first = 10 + 0.5 * (1 + 10 - 10) + 0.5 * 0.8 * 0.5 * (cut - 20)
    np.testing.assert_allclose(target[:, 0], [first, cut, 3, last])
    np.testing.assert_allclose(
        advantage[:, 0], [0.5 * (1 + 0.5 * cut - 10), 3 * (2 + 3.5 - 20), 3 - 30, 0.25 * (4 + 25 - 40)]
    )


def test_retrace_by_hand() -> None:
    q = np.array([[10.0], [20.0], [30.0], [40.0]])
    got = retrace(
        np.log([[0.5], [0.6], [1.0], [2.0]]), q=q, **by_hand(), gamma=0.5, lam=0.9, backend="reference"
    )
    cut = 2 + 0.5 * 7
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * (20 + 0.9 * 0.6 * (cut - 20)), cut, 3, 29])


@pytest.mark.parametrize("greedy", [False, True])
def test_q_lambda_by_hand(greedy: bool) -> None:
    actions = np.array([[True], [greedy], [True], [False]])
    got = q_lambda(greedy=actions, **by_hand(), gamma=0.5, lam=0.8, backend="reference")
    cut = 2 + 0.5 * 7
    first = 1 + 0.5 * ((0.2 * 20 + 0.8 * cut) if greedy else 20)
    np.testing.assert_allclose(got[:, 0], [first, cut, 3, 29])


def test_mask_by_hand() -> None:
    data = by_hand() | {"mask": np.array([[True], [False], [True], [False]])}
    got = td_lambda(**data, gamma=0.5, backend="reference")
    np.testing.assert_allclose(got[:, 0], [1 + 0.5 * 20, 0, 3, 0])


def consistent(seed: int) -> dict[str, Array]:
    """A rollout whose next values are its values, in one unbroken episode."""
    data = make("gae", 30, 7, seed=seed, dtype=np.float64, ends=0) | {"mask": None, "truncated": None}
    data["next_value"][:-1] = data["value"][1:]
    return data


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_ops_agree_where_they_are_the_same(lam: float) -> None:
    data = consistent(0)
    value, rest = data["value"], {k: x for k, x in data.items() if k != "value"}
    target = td_lambda(**rest, lam=lam)
    np.testing.assert_allclose(gae(**data, lam=lam) + value, target, atol=1e-12)
    zeros, greedy = np.zeros_like(value), np.ones(value.shape, bool)
    np.testing.assert_allclose(vtrace(zeros, **data, lam=lam)[0], target, atol=1e-12)
    np.testing.assert_allclose(q_lambda(greedy=greedy, **rest, lam=lam), target, atol=1e-12)
    np.testing.assert_allclose(retrace(zeros, q=value, **rest, lam=lam), target, atol=1e-12)
    full = td_lambda(**rest, lam=1.0)
    np.testing.assert_allclose(discounted(**rest), full, atol=1e-12)
    np.testing.assert_allclose(
        discounted(**(rest | {"next_value": data["next_value"][-1]})), full, atol=1e-12
    )
    np.testing.assert_allclose(n_step(**rest, n=30), full, atol=1e-12)
    np.testing.assert_allclose(n_step(**rest, n=1), td_lambda(**rest, lam=0.0), atol=1e-12)
    same = np.full(value.shape, lam)
    np.testing.assert_array_equal(td_lambda(**rest, lam=same), target)
    never = np.zeros_like(greedy)
    np.testing.assert_array_equal(q_lambda(greedy=never, **rest, lam=lam), td_lambda(**rest, lam=0.0))
