"""Which certificate authorities TLS trusts: what the user says, else the system's; the same on all wires."""

from __future__ import annotations

import os
import ssl
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from psfharvest.core.errors import BadInput

_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Authorities(NamedTuple):
    """Where the certificates of the trusted authorities are; with neither, the library's own default holds."""

    file: str | None = None
    folder: str | None = None


def authorities(*, trust_env: bool = True) -> Authorities:
    """
    Return whom to trust.

    A wheel's libcurl carries the path that its build machine used, which most systems do not have.

    Parameters
    ----------
    trust_env
        Whether ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` go first.
    """
    if trust_env and (file := os.environ.get("SSL_CERT_FILE")):
        return Authorities(file=file)
    if trust_env and (folder := os.environ.get("SSL_CERT_DIR")):
        return Authorities(folder=folder)
    if sys.platform in ("win32", "darwin"):
        return Authorities()
    # compiled in: what get_default_verify_paths() calls `cafile` may come from the environment
    paths = (ssl.get_default_verify_paths().openssl_cafile, *_CA_FILES)
    return Authorities(file=next((path for path in paths if path and Path(path).is_file()), None) or _certifi())


def ssl_context(*, trust_env: bool = True) -> ssl.SSLContext:
    """
    Return a context that trusts the same authorities; those who ask share it.

    Raises
    ------
    BadInput
        When the user's file of certificates cannot be read.
    """
    found = authorities(trust_env=trust_env)
    try:
        return _context(found, Path(found.file).stat().st_mtime_ns if found.file else 0)
    except OSError as error:
        name = "SSL_CERT_FILE" if found.file else "SSL_CERT_DIR"
        raise BadInput(f"{name}={found.file or found.folder}: {error.strerror or error}") from error


@lru_cache(maxsize=2)
def _context(found: Authorities, changed_ns: int) -> ssl.SSLContext:
    """Return one context as long as its file stays the same: to read that takes a twentieth of a second."""
    del changed_ns
    return ssl.create_default_context(cafile=found.file, capath=found.folder)


def _certifi() -> str | None:
    try:
        import certifi  # noqa: PLC0415 - only there when something else brings it, and only where it is needed
    except ImportError:
        return None
    return certifi.where()
