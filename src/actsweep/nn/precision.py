"""The arithmetic that `trainer.precision` names."""

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp

PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}
"""How JAX multiplies matrices of float32: by default a GPU rounds their elements to TF32."""


def dtype(precision: str) -> Any:
    """Return the type of parameters and activations in the forward pass."""
    return jnp.dtype("float32" if precision == "tf32" else precision)


def matrix_products(precision: str) -> AbstractContextManager[Any]:
    """Return a context: what is traced in it multiplies matrices and convolves as is named.

    Only accelerators tell `tf32`, whose elements have 10 bits after the point, from `float32`.
    """
    return jax.default_matmul_precision(PRODUCTS[precision])
