"""API keys: which a request brings, and whether it is one of ours."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from ocrsmith.serving.errors import ApiError


class Keys:
    """The keys of a server, kept as digests. The time that a check takes tells nothing about them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def check(self, authorization: bytes | None, origin: bytes | None = None) -> None:
        """Lets a request pass.

        Args:
            authorization, origin: the headers of those names.

        Raises:
            ApiError: 401; no key, or none of ours. 403; a server without keys is for programs of this machine,
                not for any page that its browser shows.
        """
        if not self._digests:
            if origin is not None:
                raise ApiError(
                    403, "Pages in a browser may ask only with an API key.", code="browser", reason="key"
                )
            return
        scheme, _, key = (authorization or b"").partition(b" ")
        given = hashlib.sha256(key.strip()).digest()
        fits = False
        for digest in self._digests:  # all of them, always
            fits |= hmac.compare_digest(given, digest)
        if scheme.lower() == b"bearer" and fits:
            return
        if authorization is None:
            message = "This server needs an API key: send the header `Authorization: Bearer KEY`."
        else:
            message = "The API key is not one of this server's."
        headers = {"www-authenticate": "Bearer"}
        raise ApiError(401, message, code="invalid_api_key", headers=headers, reason="key")
