"""Compiled ops, one subpackage a family, each importable alone: ``from fastrl.kernels import gae``."""

if __name__ != "fastrl.kernels":
    raise ImportError(
        f"import fastrl.kernels, not {__name__!r}: under another name its operators would register twice"
    )

from fastrl.kernels.returns import gae

__all__ = ["gae"]
