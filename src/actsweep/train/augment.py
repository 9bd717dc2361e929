"""Random changes of the images of a training step, on the device, by named random streams."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PRNGKeyArray, Shaped

from actsweep.nn.models.layers import named_key
from actsweep.utils.errors import bad_value

PADDING = 4


def crop_flip(
    images: Shaped[Array, "batch height width channels"], key: PRNGKeyArray
) -> Shaped[Array, "batch height width channels"]:
    """Return each image shifted by up to 4 pixels, and mirrored with probability 1/2.

    As He et al. (2016, https://arxiv.org/abs/1512.03385, section 4.2) train on CIFAR: 4 pixels are
    padded on each side, and a crop of the original size is taken from the padded image or its
    horizontal flip. The padding is 0 in the stored scale: black.

    Args:
        images: as stored, before `scale` and `offset`.
        key: of this step.
    """
    offsets, flips = draw(key, len(images))
    around = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))

    def one(padded: Array, offset: Array, flip: Array) -> Array:
        start = (offset[0], offset[1], jnp.int32(0))
        cropped = lax.dynamic_slice(padded, start, images.shape[1:])
        return jnp.where(flip, cropped[:, ::-1], cropped)

    return jax.vmap(one)(jnp.pad(images, around), offsets, flips)


def draw(key: PRNGKeyArray, n: int) -> tuple[Int[Array, "n 2"], Bool[Array, "n"]]:
    """Return where the crops of n images begin, down and right from 0 to 8, and which to mirror."""
    offsets = jax.random.randint(named_key(key, "crop"), (n, 2), 0, 2 * PADDING + 1)
    return offsets, jax.random.bernoulli(named_key(key, "flip"), 0.5, (n,))


AUGMENTS: dict[str, Callable[[Array, PRNGKeyArray], Array]] = {"crop_flip": crop_flip}


def check(augment: str, shape: tuple[int, ...], data: str) -> None:
    """Refuse to augment examples that are no images.

    Args:
        augment: `data.augment`.
        shape: of one example.
        data: name of the data set, for the message.

    Raises:
        UserError: the shape isn't `[height, width, channels]`.
    """
    if augment in AUGMENTS and len(shape) != 3:
        allowed = f"none for data={data}, whose examples of shape {list(shape)} are no images"
        raise bad_value("data.augment", augment, allowed, "data.augment=none")
