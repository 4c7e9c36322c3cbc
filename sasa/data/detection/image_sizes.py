"""The size of an image according to its file, for annotations that do not state it."""

from __future__ import annotations

import io

from PIL import Image

from sasa.data.files import Files
from sasa.data.folders import FolderFiles
from sasa.data.image_formats import image_formats
from sasa.data.images import DECODE_ERRORS, BrokenImageError
from sasa.data.orientation import orientation, upright_size


def read_size(files: Files, file: str) -> tuple[tuple[int, int], int]:
    """Width and height of the upright image, and its EXIF orientation (1 to 8); pixels are not decoded.

    Args:
        files: The folder or archive; it keeps the file.
        file: The image file in it.

    Raises:
        BrokenImageError: The file is not an image.
        OSError: The file cannot be read.
    """
    name = files.name(file)
    # The header is enough; only a folder can read it alone.
    content = name if isinstance(files, FolderFiles) else io.BytesIO(files.read(file))
    try:
        with Image.open(content, formats=image_formats()) as image:
            turned = orientation(image, name)
            return upright_size(image.size, turned), turned
    except DECODE_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BrokenImageError(f"{name}: broken image: its size cannot be read") from error
