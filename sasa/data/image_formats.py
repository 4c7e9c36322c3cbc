"""The image formats that are read: those that Pillow decodes by itself."""

from __future__ import annotations

import functools

from PIL import Image

# Pillow would start another program for EPS, needs Windows for WMF, and only identifies the others.
_NOT_DECODED = ("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG")


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Pillow's names of the formats, the most common first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_DECODED)


@functools.cache
def signed_formats() -> tuple[str, ...]:
    """Those of the formats that Pillow recognizes by a signature, not by trying."""
    return tuple(name for name in image_formats() if Image.OPEN[name][1] is not None)


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """The endings of files of these formats, in lower case."""
    formats = image_formats()
    return tuple(suffix for suffix, name in Image.registered_extensions().items() if name in formats)
