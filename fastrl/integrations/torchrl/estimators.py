"""TorchRL's value estimators (``torchrl.objectives.value``) on the returns kernels."""

from collections.abc import Callable
from functools import update_wrapper
from types import CellType, FunctionType
from typing import Any

from torchrl.objectives.value import advantages

from fastrl.integrations.torchrl.functional import (
    generalized_advantage_estimate,
    td_lambda_return_estimate,
    vtrace_advantage_estimate,
)

__all__ = ["GAE", "TDLambdaEstimator", "VTrace"]

_KERNELS: dict[str, Any] = {
    "generalized_advantage_estimate": generalized_advantage_estimate,
    "vec_generalized_advantage_estimate": generalized_advantage_estimate,
    "td_lambda_return_estimate": td_lambda_return_estimate,
    "vec_td_lambda_return_estimate": td_lambda_return_estimate,
    "vtrace_advantage_estimate": vtrace_advantage_estimate,
}


def _on_kernels(method: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a method of TorchRL's in which those names are ours.

    TorchRL's methods call the functions as globals of their module, and offer no other place to exchange
    them; the module itself stays as it is.
    """
    if not isinstance(method, FunctionType):
        return method
    names = method.__globals__
    if names is vars(advantages):
        names = names | _KERNELS
    cells = tuple(CellType(_on_kernels(cell.cell_contents)) for cell in method.__closure__ or ())
    twin = FunctionType(method.__code__, names, method.__name__, method.__defaults__, cells)
    twin.__kwdefaults__ = method.__kwdefaults__
    return update_wrapper(twin, method)


class GAE(advantages.GAE):  # type: ignore[misc]
    """``torchrl.objectives.value.GAE``; ``vectorized`` makes no difference."""

    forward = _on_kernels(advantages.GAE.forward)
    value_estimate = _on_kernels(advantages.GAE.value_estimate)


class TDLambdaEstimator(advantages.TDLambdaEstimator):  # type: ignore[misc]
    """``torchrl.objectives.value.TDLambdaEstimator``; ``vectorized`` makes no difference."""

    forward = _on_kernels(advantages.TDLambdaEstimator.forward)
    value_estimate = _on_kernels(advantages.TDLambdaEstimator.value_estimate)


class VTrace(advantages.VTrace):  # type: ignore[misc]
    """``torchrl.objectives.value.VTrace``."""

    forward = _on_kernels(advantages.VTrace.forward)
