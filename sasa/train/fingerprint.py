"""Fingerprints of images by their names, which tell whether data changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any


def fingerprint(lines: Iterable[str]) -> dict[str, Any]:
    """The number of lines, "count", and their SHA-256 in hexadecimal, "digest".

    Args:
        lines: A line per image, such as its name and label, in an order that does not depend on chance.
    """
    digest, count = hashlib.sha256(), 0
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
        count += 1
    return {"count": count, "digest": digest.hexdigest()}
