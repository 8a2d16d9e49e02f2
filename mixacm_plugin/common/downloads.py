"""Downloads: by https only, of a bounded size, checked before they take their place."""

import hashlib
import os
import sys
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlparse

from torchdistill.common.main_util import is_main_process
from tqdm import tqdm

from .files import replacing

SCHEMES = ("https",)
LARGEST = 8 * 2**30  # bytes of a file
SILENCE = 60.0  # seconds for which a server may send nothing
CHUNK = 1 << 20


class DownloadError(Exception):
    """A file that can't be had, or isn't what it should be, in one line."""


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, url: str
    ) -> Any:
        check_scheme(url)
        return super().redirect_request(req, fp, code, msg, headers, url)


def check_scheme(url: str) -> None:
    """Raise ``DownloadError`` unless a URL is of https."""
    if urlparse(url).scheme not in SCHEMES:
        raise DownloadError(f"{url} isn't https, so that anybody on the way could change it")


def file_name(url: str) -> str:
    """Return the plain name that a URL ends with, never a path; ``download`` if there is none.

    Example:
        >>> file_name("https://example.org/files/a.pt?key=1")
        'a.pt'
    """
    name = unquote(urlparse(url).path).replace("\\", "/").rpartition("/")[2]
    return "download" if name in ("", ".", "..") or "\0" in name else name


def download(url: str, path: str | os.PathLike[str], sha256: str | None = None) -> None:
    """Download a file to where the caller says, whatever the server says; all of it or nothing.

    Args:
        url: of https, and so is what it leads on to.
        path: of the file to be.
        sha256: of the file, or its beginning, in lower case; unchecked by default.

    Raises:
        DownloadError: if it can't be had, is larger than ``LARGEST`` or has another sha256.
        UserError: if it can't be written.
    """
    check_scheme(url)
    opener = urllib.request.build_opener(_CheckedRedirects)
    try:
        with opener.open(url, timeout=SILENCE) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            _check_size(url, length)
            with replacing(path) as temporary:
                digest = _receive(url, answer, temporary, length)
                if sha256 is not None and not digest.startswith(sha256):
                    raise DownloadError(f"{url} has sha256 {digest}, not {sha256}")
    except (URLError, HTTPException, TimeoutError, ValueError) as error:
        raise _failed(url, error) from error


def _receive(url: str, answer: Any, file: Path, length: int) -> str:
    """Write what a server sends to a file; return its sha256."""
    digest, size = hashlib.sha256(), 0
    shown = sys.stderr.isatty() and is_main_process()
    bar = tqdm(total=length or None, unit="B", unit_scale=True, disable=not shown, leave=False)
    with file.open("wb") as target, bar:
        for block in _blocks(url, answer):
            size += len(block)
            _check_size(url, size)
            target.write(block)
            digest.update(block)
            bar.update(len(block))
    if size < length:
        raise DownloadError(f"{url} ended after {size:,} of {length:,} bytes; try again")
    return digest.hexdigest()


def _blocks(url: str, answer: Any) -> Iterator[bytes]:
    try:
        while block := answer.read(CHUNK):
            yield block
    except (OSError, HTTPException) as error:  # of the connection, not of the disk
        raise _failed(url, error) from error


def _failed(url: str, error: Exception) -> DownloadError:
    return DownloadError(f"can't download {url} ({getattr(error, 'reason', None) or error})")


def _check_size(url: str, size: int) -> None:
    if size > LARGEST:
        raise DownloadError(f"{url} is larger than {LARGEST:,} bytes; download it by hand")
