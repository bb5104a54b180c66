"""One hash for what a dataset holds: which samples, with which image and text, in which split.

It does not depend on the order of samples, on the layout, on the shards or on versions of libraries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ocrsmith.records import SplitName


def sample_digest(sample_id: str, image_digest: bytes, text: str) -> bytes:
    """16 bytes for a sample; `image_digest` is that of `image_digest()`."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (
        sample_id.encode("utf-8", "surrogatepass"),
        image_digest,
        text.encode("utf-8", "surrogatepass"),
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def image_digest(image: bytes) -> bytes:
    """16 bytes for an encoded image."""
    return hashlib.blake2b(image, digest_size=16).digest()


def combine(samples: Iterable[tuple[SplitName, bytes]]) -> str:
    """The hash of a dataset: `sha256:` and 64 hex digits, from splits and sample digests in any order."""
    digest = hashlib.sha256()
    for line in sorted(split.encode() + b"\0" + value for split, value in samples):
        digest.update(line)
    return f"sha256:{digest.hexdigest()}"
