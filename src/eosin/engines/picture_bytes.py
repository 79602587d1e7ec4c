"""Pictures as the bytes that leave for a server: the file's own where it is plain, else PNG, encoded once a picture."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from PIL import Image

from eosin.core.images import encode_png
from eosin.core.plain_files import is_plain

KEPT_BYTES = 64 * 2**20


class PictureBytes:
    """Encodes pictures, and keeps what it encoded by the pictures' content, up to a size. May be used by any thread.

    Args:
        kept_bytes: size of all that is kept; what was not asked for the longest goes first.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._limit = kept_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self.num_encoded = 0
        self.num_as_stored = 0

    def of(self, picture: Image.Image, stored: bytes | None = None) -> bytes:
        """PNG or JPEG bytes of an RGB picture.

        Args:
            stored: the file whose whole, unchanged picture this is, where there is one.
        """
        if stored is not None and is_plain(stored):
            with self._lock:
                self.num_as_stored += 1
            return stored
        key = hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        data = encode_png(picture)
        with self._lock:
            self.num_encoded += 1
            if key not in self._kept:
                self._kept[key] = data
                self._size += len(data)
            while self._size > self._limit and self._kept:
                self._size -= len(self._kept.popitem(last=False)[1])
        return data
