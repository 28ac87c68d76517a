"""The certificates that TLS trusts are read once, and again when their file has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from psfharvest import BadInput
from psfharvest.archive.wires.trust import ssl_context


def write(path: Path, authorities: list[trustme.CA], at_ns: int) -> None:
    path.write_bytes(b"".join(authority.cert_pem.bytes() for authority in authorities))
    os.utime(path, ns=(at_ns, at_ns))


def test_a_context_is_shared_until_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewed file counts for the next archive; one that holds no certificate is refused each time."""
    authorities = [trustme.CA(), trustme.CA()]
    path = tmp_path / "authorities.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    write(path, authorities[:1], 10**18)
    first = ssl_context()
    assert first is ssl_context()
    assert first is not ssl_context(trust_env=False)
    assert 1 == len(first.get_ca_certs())

    write(path, authorities, 10**18 + 10**9)
    assert 2 == len(ssl_context().get_ca_certs())

    path.write_text("no certificate")
    for _ in range(2):
        with pytest.raises(BadInput, match="SSL_CERT_FILE"):
            ssl_context()
    path.unlink()
    with pytest.raises(BadInput, match="No such file"):
        ssl_context()
