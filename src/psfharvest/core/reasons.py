"""Reasons why a cutout is not there: the groups that decisions go by, and what can be done about each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """Why a cutout is not there: the vocabulary of the manifest, the reports and the exceptions."""

    NOT_FOUND = "not_found"
    OFF_DETECTOR = "off_detector"
    NO_PRODUCT = "no_product"

    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    HTTP_ERROR = "http_error"

    EMPTY = "empty"
    HTML_PAGE = "html_page"
    TEXT_PAGE = "text_page"
    NOT_FITS = "not_fits"
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"
    WRONG_SHAPE = "wrong_shape"
    WRONG_SOURCE = "wrong_source"
    TOO_LARGE = "too_large"
    WRONG_KIND = "wrong_kind"

    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    DNS = "dns"
    TLS = "tls"
    REDIRECT = "redirect"
    PROTOCOL = "protocol"

    NOT_IN_BUNDLE = "not_in_bundle"
    BAD_URI = "bad_uri"


MISSING = frozenset({Reason.NOT_FOUND, Reason.OFF_DETECTOR, Reason.NO_PRODUCT})
"""The archive has no such cutout: the state is ``missing``; of all other reasons it is ``failed``."""
FINAL = MISSING | {Reason.UNAUTHORIZED, Reason.FORBIDDEN, Reason.BAD_URI}
"""Another request would meet the same; after all others it is tried again."""
ACCESS = frozenset({Reason.UNAUTHORIZED, Reason.FORBIDDEN, Reason.RATE_LIMITED})
"""They concern who asks, whatever the answer's text: nothing follows for the product."""
DIRECT = (
    MISSING
    | {Reason.UNAUTHORIZED, Reason.FORBIDDEN}
    | {Reason.HTML_PAGE, Reason.TEXT_PAGE, Reason.NOT_FITS, Reason.TRAILING_BYTES, Reason.WRONG_SHAPE}
    | {Reason.WRONG_SOURCE, Reason.TOO_LARGE, Reason.WRONG_KIND}
)
"""They concern the cutout that was asked for: only a series of them speaks against the archive."""

NO_CONNECTION = frozenset({Reason.DNS, Reason.TLS, Reason.REFUSED})
"""Nobody was reached."""
NO_HTTP = frozenset({Reason.RESET, Reason.PROTOCOL})
"""What answers may speak something else, such as TLS, or a kept connection had died or held surplus bytes."""
OVERLOAD = frozenset({Reason.RATE_LIMITED, Reason.SERVER_ERROR, Reason.TIMEOUT, Reason.RESET, Reason.REFUSED})
"""The archive may have too much to do: the rate limiter lowers its rate."""
INCOMPLETE = frozenset({Reason.EMPTY, Reason.TRUNCATED})
"""Too little of a body came: the connection may have cut it, so that it says nothing of the cutout."""
BROKEN_TRANSFER = NO_HTTP | INCOMPLETE
"""A kept connection alone may have broken."""
BEYOND_LIMITS = frozenset({Reason.TOO_LARGE, Reason.REDIRECT})
"""Refused by rules of this program."""
PAGE_OR_NOTHING = frozenset({Reason.HTML_PAGE, Reason.TEXT_PAGE, Reason.EMPTY})
"""What came is no file at all."""
OTHER_CONTENT = frozenset({Reason.HTML_PAGE, Reason.TEXT_PAGE, Reason.NOT_FITS, Reason.WRONG_KIND})
"""A whole body of something else: a row of these says the same of the archive, whichever each of them is."""
MAY_BE_QUIRK = frozenset(
    {Reason.WRONG_SHAPE, Reason.TRUNCATED, Reason.TRAILING_BYTES, Reason.NOT_FITS, Reason.TEXT_PAGE}
)
"""The strict check of a body found this: it may be a good cutout of another form."""
ANSWER_TOO_LARGE = BROKEN_TRANSFER | {Reason.SERVER_ERROR, Reason.TIMEOUT, Reason.TOO_LARGE, Reason.TEXT_PAGE}
"""How a query may fail whose answer is more than the archive can deliver: in smaller pieces it may pass."""

REMEDY: Mapping[Reason, str] = {
    Reason.NOT_FOUND: "the archive has no such product; ask for another suffix",
    Reason.OFF_DETECTOR: "the cutout lies wholly outside the image; nothing to do",
    Reason.NO_PRODUCT: "the archive says the same of every cutout of this product: see the detail; nothing to do",
    Reason.UNAUTHORIZED: "give a valid token: Archive(token=…)",
    Reason.FORBIDDEN: "the data are not public, or the archive refuses you; ask its help desk",
    Reason.RATE_LIMITED: "run again later, with fewer connections: Limits(max_connections=…)",
    Reason.SERVER_ERROR: "the archive failed on this cutout; run again later",
    Reason.HTTP_ERROR: "the archive answered in an unexpected way; see the detail",
    Reason.EMPTY: "the archive sent nothing; run again",
    Reason.HTML_PAGE: "the archive sent a web page instead of the cutout; run again later",
    Reason.TEXT_PAGE: "the archive sent a message instead of the cutout; see the detail",
    Reason.NOT_FITS: "the archive sent something that is no FITS file; run again later",
    Reason.TRUNCATED: "the cutout arrived incomplete each time; run again, check the network",
    Reason.TRAILING_BYTES: "more arrived than the FITS file that was announced; run again later",
    Reason.WRONG_SHAPE: 'the image has another shape than asked; report it, or store such: accept=["wrong_shape"]',
    Reason.WRONG_SOURCE: 'the image is of another exposure; report it, or store such: accept=["wrong_source"]',
    Reason.TOO_LARGE: "the body went past the size cap; see the detail",
    Reason.WRONG_KIND: "the file is not of the kind that its name says; see the detail, run again later",
    Reason.TIMEOUT: "no byte came in time; run again, or with a larger Limits(timeout_s=…)",
    Reason.REFUSED: "no connection to the archive; check the address and the network",
    Reason.RESET: "the connection broke each time; run again, check the network",
    Reason.DNS: "the archive's name was not found; check the address and the network",
    Reason.TLS: "the secure connection failed; check the certificates (SSL_CERT_FILE) and the clock",
    Reason.REDIRECT: "the archive redirected to where we do not follow; see the detail",
    Reason.PROTOCOL: "the answer was not HTTP; check for a proxy in between",
    Reason.NOT_IN_BUNDLE: 'bundles kept leaving it out; run again with via="file"',
    Reason.BAD_URI: "it is no dataURI of a cutout; see the detail, correct the list",
}


def remedy(reason: str) -> str:
    """Return what a reason means and what can be done about it."""
    return REMEDY[Reason(reason)] if reason in {*Reason} else "see the detail"
