"""Training images that are mirrored and shifted at random, anew each time they are seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastmlp.errors import ConfigError


@dataclass(frozen=True)
class Augmentation:
    """What is done to images; `kernels.reference.gather_moved` does it.

    Attributes
    ----------
    image_shape : (channels, height, width)
        How a row of the data is laid out.
    mirror : bool, default False
        Mirror an image left-right with probability 1/2.
    shift : int, default 0
        Move it by up to so many pixels, up or down and left or right. What comes in at an edge repeats the edge's
        pixels, which are more like the picture than any constant.

    Raises
    ------
    ConfigError
        The shift is negative, or would leave nothing of an image.

    Examples
    --------
    >>> moves = Augmentation((3, 32, 32), mirror=True, shift=2).draw(1000, np.random.default_rng(0))
    >>> moves.shape, moves.min(axis=1).tolist(), moves.max(axis=1).tolist()
    ((3, 1000), [0, -2, -2], [1, 2, 2])
    """

    image_shape: tuple[int, int, int]
    mirror: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        _, height, width = self.image_shape
        if not 0 <= self.shift < min(height, width):
            raise ConfigError(f"--shift {self.shift} must be at least 0 and less than the images' height and width, "
                              f"{height} and {width}: choose a smaller one")

    def draw(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """Moves of n images: (3, n), whether to mirror (1 or 0), pixels down, pixels to the right."""
        moves = np.zeros((3, n), np.int32)
        if self.mirror:
            moves[0] = rng.integers(2, size=n)
        if self.shift:
            moves[1:] = rng.integers(-self.shift, self.shift + 1, size=(2, n))
        return moves
