"""Names and versions of the image sets that TFDS describes. Known without importing TFDS."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageSet:
    """One set of 28x28 grey images in ten classes.

    Attributes:
        builder: the class in `tfds.image_classification`.
        version: TFDS's version, the name of its folder.
        labels: TFDS's names of the classes.
    """

    builder: str
    version: str
    labels: tuple[str, ...]


IMAGES = {
    "fashion_mnist": ImageSet(
        "FashionMNIST",
        "3.0.1",
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "mnist": ImageSet("MNIST", "3.0.1", tuple("0123456789")),
    "kmnist": ImageSet(
        "KMNIST", "3.0.1", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    ),
}
