"""Decoding of image files into 8-bit PIL images; the errors name the broken file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# What Pillow raises for damaged pixels, chunks and headers; other errors are not due to the file.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_MODES = {1: "L", 3: "RGB"}


class BrokenImageError(ValueError):
    """A file that cannot be decoded as an 8-bit image; the message names the file and the reason."""


def image_mode(in_chans: int) -> str:
    """Pillow's mode for a number of channels: "L" for 1, "RGB" for 3.

    Raises:
        ValueError: The number is neither 1 nor 3.
    """
    if in_chans not in _MODES:
        raise ValueError(f"in_chans: expected 1 (grayscale) or 3 (RGB), got {in_chans!r}")
    return _MODES[in_chans]


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode the content of an image file.

    Args:
        data: The file's content, in any format that Pillow reads.
        name: The file's name in messages.

    Returns:
        The fully decoded image in its stored mode.

    Raises:
        BrokenImageError: The content is empty, truncated or not an image.
    """
    if not data:
        raise BrokenImageError(f"{name}: broken image: the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except DECODE_ERRORS as error:
        # Pillow's own text would show the address of the in-memory buffer.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "not an image that Pillow can identify" if unknown else str(error)
        raise BrokenImageError(f"{name}: broken image: {reason}") from error
    return image


def convert_image(image: Image.Image, mode: str, name: str) -> Image.Image:
    """Convert a decoded image to mode "L" or "RGB"; transparency is dropped.

    Raises:
        BrokenImageError: The pixels are deeper than 8 bits; Pillow would clip them at 255.
    """
    if image.mode == mode:
        return image
    if image.mode.startswith(("I", "F")):
        raise BrokenImageError(
            f"{name}: broken image: pixels of mode {image.mode!r} are deeper than 8 bits and would be "
            "clipped; convert the file to 8 bits per channel"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def read_image(path: str | Path, in_chans: int = 3) -> Image.Image:
    """Read one image file from disk, for prediction and figures.

    Args:
        path: An image file in any format that Pillow reads.
        in_chans: 1 for a grayscale ("L") image, 3 for an "RGB" one.

    Returns:
        An 8-bit PIL image of the stored width and height.

    Raises:
        OSError: The file cannot be read (FileNotFoundError, PermissionError, …).
        BrokenImageError: The file is damaged or not an image.
        ValueError: in_chans is neither 1 nor 3.
    """
    mode = image_mode(in_chans)
    if Path(path).is_dir():
        raise IsADirectoryError(
            f"path: expected an image file, got the folder {str(path)!r}; give files, such as {path}/*.jpg"
        )
    if not Path(path).exists():
        raise FileNotFoundError(f"path: expected an image file, got {str(path)!r}, which does not exist")
    return convert_image(decode_image(Path(path).read_bytes(), str(path)), mode, str(path))
