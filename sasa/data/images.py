"""Decode image files into 8-bit PIL images, and say which file is broken when that fails."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError

# What Pillow raises for damaged pixels, chunks and headers; anything else is not the file's fault.
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
    """A file that cannot be decoded as an 8-bit image; the message names the file and why."""


def image_mode(in_chans: int) -> str:
    """Return Pillow's mode for a number of channels: "L" for 1, "RGB" for 3.

    Raises:
        ValueError: for any other number.
    """
    if in_chans not in _MODES:
        raise ValueError(f"in_chans must be 1 (grayscale) or 3 (RGB), got {in_chans!r}")
    return _MODES[in_chans]


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode a whole image file held in memory.

    Args:
        data: the file's bytes, in any format Pillow reads.
        name: what to call the file in an error.

    Returns:
        The fully decoded image in the mode it was stored in.

    Raises:
        BrokenImageError: the bytes are empty, truncated or no image.
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
        BrokenImageError: the pixels are deeper than 8 bits, which Pillow would clip at 255.
    """
    if image.mode == mode:
        return image
    if image.mode.startswith(("I", "F")):
        raise BrokenImageError(
            f"{name}: broken image: pixels of mode {image.mode!r} are deeper than 8 bits and would "
            "be clipped; convert the file to 8 bits a channel"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert(mode)


def read_image(path: str | Path, in_chans: int = 3) -> Image.Image:
    """Read one image file from disk, for prediction and pictures.

    Args:
        path: an image file in any format Pillow reads.
        in_chans: 1 gives a grayscale ("L") image, 3 an "RGB" one.

    Returns:
        An 8-bit PIL image of width × height as stored.

    Raises:
        OSError: the file cannot be read (FileNotFoundError, PermissionError, …).
        BrokenImageError: the file is no image, or a damaged one.
        ValueError: in_chans is neither 1 nor 3.
    """
    mode = image_mode(in_chans)
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give image files, such as {path}/*.jpg")
    if not Path(path).exists():
        raise FileNotFoundError(f"no image at {path}; give the path of an image file")
    return convert_image(decode_image(Path(path).read_bytes(), str(path)), mode, str(path))
