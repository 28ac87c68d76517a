"""Oddities of how cutouts and bundles travel: redirects, encodings, statuses, and answers for what is missing."""

import gzip
import io
import zipfile
from collections.abc import Collection
from typing import Final

from psfharvest.simulator.http.exchange import Answer, Exchange

COOKIE: Final = b"visit=1"
_MISSING: Final = {
    "missing_500": (500, b"text/plain", b"Internal Server Error: no such file\n"),
    "missing_400": (400, b"text/plain", b"Bad Request\n"),
    "missing_html": (200, b"text/html", b"<html><body>Software error: file not found</body></html>\n"),
    "missing_text": (200, b"text/plain", b"fitscut: could not open file: No such file or directory\n"),
    "missing_json": (200, b"application/json", b'{"status": "ERROR", "msg": "The requested file was not found"}'),
    "missing_empty": (200, b"application/octet-stream", b""),
    "missing_202": (202, b"text/plain", b""),
    "missing_204": (204, b"text/plain", b""),
}


def missing(oddities: Collection[str]) -> Answer | None:
    """Give the answer for a product that does not exist; None where that is the usual one."""
    for name, (status, kind, body) in _MISSING.items():
        if name in oddities:
            return Answer(status, [(b"content-type", kind)], body)
    return None


def redirected(exchange: Exchange, oddities: Collection[str], data_url: str) -> Answer | None:
    """Give the redirect that comes before a cutout, if one does."""
    if "redirect_host" in oddities and data_url:
        port = exchange.header(b"host").rpartition(b":")[2]
        return Answer(302, [(b"location", b"http://localhost:%s%s" % (port, data_url.encode("latin-1")))])
    if "redirect_http" in oddities and data_url:
        return Answer(302, [(b"location", b"http://%s%s" % (exchange.header(b"host"), data_url.encode("latin-1")))])
    if "redirect_cookie" in oddities and COOKIE not in exchange.header(b"cookie"):
        location = exchange.target.encode("latin-1")
        return Answer(302, [(b"location", location), (b"set-cookie", COOKIE + b"; Path=/")])
    return None


def cutout(answer: Answer, oddities: Collection[str]) -> Answer:
    """Change the answer that holds a cutout."""
    body = answer.body
    if not isinstance(body, bytes):
        return answer
    if "content_gzip" in oddities:
        headers = [*answer.headers, (b"content-encoding", b"gzip")]
        return Answer(answer.status, headers, gzip.compress(body, 1, mtime=0))
    if "status_202" in oddities:
        return Answer(202, answer.headers, body)
    if "status_206" in oddities:
        return Answer(206, [*answer.headers, (b"content-range", b"bytes 0-%d/*" % (len(body) - 1))], body)
    return answer


async def by_http_1_0(exchange: Exchange, answer: Answer) -> None:
    """Send an answer as HTTP/1.0 would: without a length, closed at its end."""
    lines = b"".join(b"%s: %s\r\n" % header for header in answer.headers)
    exchange.write(b"HTTP/1.0 %d OK\r\n%s\r\n" % (answer.status, lines))
    exchange.write(await answer.whole())
    await exchange.hang_up()


def instead_of_bundle(oddities: Collection[str]) -> Answer | None:
    """Give what comes in a bundle's place, if anything does."""
    if "bundle_html" in oddities:
        return Answer.html("Error", "Too many files")
    if "bundle_500" in oddities:
        return Answer.text("Internal Server Error", status=500)
    if "bundle_redirect" in oddities:
        return Answer(302, [(b"location", b"/api/v0.1/Download/prepared/none.tar.gz")])
    if "bundle_empty" in oddities:
        return Answer(200, [(b"content-type", b"application/gzip")], gzip.compress(bytes(10_240), 1, mtime=0))
    if "bundle_zip" in oddities:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("MANIFEST.HTML", "<html></html>")
        return Answer(200, [(b"content-type", b"application/zip")], out.getvalue())
    return None


def member_path(root: str, path: str, number: int, oddities: Collection[str]) -> str:
    """Give a member's name in a bundle."""
    folder, _, name = path.rpartition("/")
    names = {
        "bundle_deep": f"{root}/{folder}/url/cgi-bin/{name}",
        "bundle_flat": name,
        "bundle_dotted": f"./{root}/{path}",
        "bundle_renamed": f"{root}/{folder}/{name.replace('_cutout', '')}",
        "bundle_lower": f"{root}/{path}".lower(),
        "bundle_numbered": f"{root}/{path.removesuffix('.fits')}({number}).fits",
    }
    return next((text for oddity, text in names.items() if oddity in oddities), f"{root}/{path}")


def has_root(oddities: Collection[str]) -> bool:
    """Tell whether a bundle has a root directory."""
    return "bundle_flat" not in oddities
