"""The frame that the boxes of an image refer to, where EXIF states that it is stored turned or mirrored."""

from __future__ import annotations

from PIL import Image

from sasa.data.orientation import orientation, turn_upright, upright_size, without_orientation


def annotated_frame(image: Image.Image, size: tuple[int, int], has_objects: bool, name: str) -> Image.Image:
    """The image in the frame of its annotations: as stored, or upright.

    Args:
        image: The decoded image.
        size: Width and height according to the annotations.
        has_objects: Whether it has any; an image without is turned upright.
        name: The file's name in messages.

    Returns:
        The image, whose metadata no longer state an orientation.

    Raises:
        ValueError: The size is that of neither frame, or that of both, so that it does not decide.
    """
    turned = orientation(image, name)
    upright = upright_size(image.size, turned)
    if size not in (image.size, upright):
        got = f"{image.width}×{image.height}"
        if upright != image.size:
            got += f", or {upright[0]}×{upright[1]} if turned upright (EXIF orientation {turned})"
        raise ValueError(
            f"{name}: expected {size[0]}×{size[1]} pixels, as annotated, got {got}; correct the annotations "
            "or the image"
        )
    if turned == 1:
        return image
    if not has_objects or upright != image.size:
        return turn_upright(image, name) if size == upright else without_orientation(image)
    raise ValueError(f"{name}: {undecided(turned)}")


def undecided(turned: int) -> str:
    """The fault of an image whose size does not decide in which frame its boxes are."""
    return (
        f"EXIF orientation {turned}: expected boxes for the stored or the upright image, but the annotated "
        "size does not decide which; store the image upright, without EXIF orientation, and check its boxes"
    )
