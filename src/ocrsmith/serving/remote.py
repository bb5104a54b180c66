"""Images from other servers: only from hosts that were allowed by name, and never from inside by a trick.

The address of a host is looked up once, checked, and connected to: a name that leads elsewhere the next time
changes nothing. Redirects stay on the host. Size and time are bounded; proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from ocrsmith.serving.errors import ApiError, bad_request
from ocrsmith.serving.settings import ImageHost, ServerSettings

_REDIRECTS = 3
_EMBEDDING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""Addresses of IPv6 that lead to one of IPv4, perhaps a private one."""


class Fetcher:
    """Fetches images for a server, within its settings."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._hosts = settings.image_hosts()

    async def fetch(self, url: str, field: str) -> bytes:
        """The body behind `url`.

        Raises:
            ApiError: 400; the address is not allowed, or cannot be fetched within the limits.
        """
        try:
            async with asyncio.timeout(self._settings.fetch_seconds):
                for _ in range(_REDIRECTS + 1):
                    answer = await self._once(self._allowed(url, field), field)
                    if isinstance(answer, bytes):
                        return answer
                    url = urljoin(url, answer)
        except TimeoutError:
            seconds = self._settings.fetch_seconds
            raise bad_request(f"The image could not be fetched within {seconds:g} seconds.", field) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
            raise bad_request("The image could not be fetched from that address.", field) from None
        raise bad_request("The image's address redirects too often.", field)

    def _allowed(self, url: str, field: str) -> tuple[ImageHost, SplitResult]:
        """The allowed host that the address names, and the address in parts."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise bad_request("The image's address is no URL.", field) from None
        if parts.scheme not in ("http", "https"):
            raise bad_request("Give the image as a data URI: data:image/png;base64, …", field)
        host = ImageHost(parts.scheme, (parts.hostname or "").rstrip("."), port or _usual(parts.scheme))
        odd = not url.isascii() or not url.isprintable() or " " in url or "\\" in url
        if odd or "@" in parts.netloc or host not in self._hosts:
            raise bad_request(
                "This server fetches no images from that host. Give the image as a data URI: "
                "data:image/png;base64, …",
                field,
                code="host_not_allowed",
            )
        return host, parts

    async def _once(self, target: tuple[ImageHost, SplitResult], field: str) -> bytes | str:
        """The body, or where it is said to be."""
        host, parts = target
        address = await _resolve(host, field)
        netloc = f"[{address}]:{host.port}" if ":" in address else f"{address}:{host.port}"
        url = parts._replace(netloc=netloc, fragment="").geturl()
        name = f"[{host.name}]" if ":" in host.name else host.name
        shown = name if host.port == _usual(host.scheme) else f"{name}:{host.port}"
        headers = {"host": shown, "accept": "image/*", "accept-encoding": "identity"}
        seconds = self._settings.fetch_seconds
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=seconds) as client:
            request = client.build_request("GET", url, headers=headers, extensions={"sni_hostname": host.name})
            answer = await client.send(request, stream=True)
            try:
                if answer.has_redirect_location:
                    return answer.headers["location"]
                packed = answer.headers.get("content-encoding", "identity") != "identity"
                if answer.status_code != 200 or packed:
                    raise bad_request(f"The image's address answers with status {answer.status_code}.", field)
                return await self._body(answer, field)
            finally:
                await answer.aclose()

    async def _body(self, answer: httpx2.Response, field: str) -> bytes:
        limit = self._settings.max_image_bytes
        parts = bytearray()
        declared = answer.headers.get("content-length", "0")
        if not declared.isdigit() or len(declared) > 18 or int(declared) > limit:
            raise _too_long(limit, field)
        async for part in answer.aiter_raw():
            parts += part
            if len(parts) > limit:
                raise _too_long(limit, field)
        return bytes(parts)


async def _resolve(host: ImageHost, field: str) -> str:
    """An address of the host; all of them must be public, unless the host is local by its own name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not host.is_local_by_name and not all(map(is_public, addresses)):
        raise bad_request("The image's host has a private address.", field, code="host_not_allowed")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _EMBEDDING):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _usual(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _too_long(limit: int, field: str) -> ApiError:
    return bad_request(f"The image is longer than {limit:,} bytes.", field, code="image_too_large")
