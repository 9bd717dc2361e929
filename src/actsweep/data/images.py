"""Names and versions of the image sets that TFDS describes. Known without importing TFDS."""

from dataclasses import dataclass

IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
IDX_NAMES = tuple(name for pair in IDX_FILES.values() for name in pair)
SVHN_FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}


@dataclass(frozen=True)
class ImageSet:
    """One set of small images in classes.

    Attributes:
        builder: TFDS's name of the set, and of its folder.
        version: TFDS's version, the name of the folder in it.
        labels: names of the classes.
        files: names of the files in which the set is published.
        shape: of an image, `(height, width, channels)`.
    """

    builder: str
    version: str
    labels: tuple[str, ...]
    files: tuple[str, ...] = IDX_NAMES
    shape: tuple[int, int, int] = (28, 28, 1)


CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGITS = tuple("0123456789")
HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
THINGS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FINE_THINGS = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
COLOUR = (32, 32, 3)

IMAGES = {
    "fashion_mnist": ImageSet("fashion_mnist", "3.0.1", CLOTHES),
    "mnist": ImageSet("mnist", "3.0.1", DIGITS),
    "kmnist": ImageSet("kmnist", "3.0.1", HIRAGANA),
    "cifar10": ImageSet("cifar10", "3.0.2", THINGS, ("cifar-10-binary.tar.gz",), COLOUR),
    "cifar100": ImageSet(
        "cifar100", "3.0.2", tuple(FINE_THINGS.split()), ("cifar-100-binary.tar.gz",), COLOUR
    ),
    "svhn": ImageSet("svhn_cropped", "3.1.0", DIGITS, tuple(SVHN_FILES.values()), COLOUR),
}
