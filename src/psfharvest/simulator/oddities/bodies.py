"""
Oddities of a cutout's file: its padding, its units, its names.

Rule: the pixels stay those of the plain file.
"""

import gzip
import io
import re
from collections.abc import Callable, Collection
from typing import Final

from psfharvest.simulator.sky.order import Order

BLOCK: Final = 2_880
CARD: Final = 80
_GZIP_TIME: Final = re.compile(rb"(\x1f\x8b\x08\0)....(\x02\xff)", re.DOTALL)
"""The head of a gzip member; its time would make each answer another one."""


def changed(body: bytes, oddities: Collection[str], order: Order) -> bytes:
    """Change a cutout's file."""
    for name, rename in _NAMES.items():
        if name in oddities:
            body = rename(body, order)
    for name, change in _BODIES.items():
        if name in oddities:
            body = change(body)
    return body


def _cards(body: bytes) -> tuple[list[bytes], bytes]:
    """Give the cards of the header without END, and what follows the header."""
    cards = []
    at = 0
    while (card := body[at : at + CARD]).rstrip() != b"END":
        cards.append(card)
        at += CARD
    return cards, body[-(-(at + CARD) // BLOCK) * BLOCK :]


def _header(cards: list[bytes], fill: bytes = b" ") -> bytes:
    head = b"".join(cards) + b"END"
    return head + fill * (-len(head) % BLOCK)


def _card(text: str) -> bytes:
    return text.ljust(CARD).encode("ascii")


def _integer(name: str, value: int) -> bytes:
    return _card(f"{name:<8}= {value:>20}")


def _sides(cards: list[bytes]) -> tuple[int, int]:
    found = {card[:8].strip(): card[10:30] for card in cards}
    return int(found[b"NAXIS1"]), int(found[b"NAXIS2"])


def _degenerate(body: bytes) -> bytes:
    cards, data = _cards(body)
    at = next(i for i, card in enumerate(cards) if card.startswith(b"NAXIS2"))
    cards[at - 2] = _integer("NAXIS", 3)
    cards.insert(at + 1, _integer("NAXIS3", 1))
    return _header(cards) + data


def _nul_padded(body: bytes) -> bytes:
    cards, data = _cards(body)
    return _header(cards, b"\0") + data


def _unpadded(body: bytes) -> bytes:
    cards, data = _cards(body)
    nx, ny = _sides(cards)
    return _header(cards) + data[: 4 * nx * ny]


def _in_extension(body: bytes) -> bytes:
    cards, data = _cards(body)
    simple, extend = (_card(f"{name:<8}= {'T':>20}") for name in ("SIMPLE", "EXTEND"))
    primary = [simple, _integer("BITPIX", 8), _integer("NAXIS", 0), extend]
    at = next(i for i, card in enumerate(cards) if card.startswith(b"NAXIS2")) + 1
    cards[0] = _card("XTENSION= 'IMAGE   '")
    cards[at:at] = [_integer("PCOUNT", 0), _integer("GCOUNT", 1)]
    return _header(primary) + _header(cards) + data


def _tiles(body: bytes) -> bytes:
    from astropy.io import fits  # noqa: PLC0415 - heavy, and rare

    with fits.open(io.BytesIO(body)) as units:
        header = units[0].header
        names = {name: header[name] for name in ("ROOTNAME", "EXPNAME") if name in header}
        packed = fits.CompImageHDU(units[0].data, fits.Header(names), compression_type="GZIP_1", quantize_level=0)
        out = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(out)
    return _GZIP_TIME.sub(rb"\1\0\0\0\0\2", out.getvalue())


def _renamed(change: Callable[[Order], dict[bytes, str]]) -> Callable[[bytes, Order], bytes]:
    def apply(body: bytes, order: Order) -> bytes:
        cards, data = _cards(body)
        names = change(order)
        return _header([_text(card, names) for card in cards]) + data

    return apply


def _text(card: bytes, names: dict[bytes, str]) -> bytes:
    name = card[:8].strip()
    return _card(f"{name.decode():<8}= '{names[name]:<24}'") if name in names else card


def _without_names(body: bytes, _: Order) -> bytes:
    cards, data = _cards(body)
    return _header([card for card in cards if card[:8].strip() not in (b"ROOTNAME", b"EXPNAME")]) + data


_NAMES: Final[dict[str, Callable[[bytes, Order], bytes]]] = {
    "name_suffix": _renamed(lambda o: dict.fromkeys((b"ROOTNAME", b"EXPNAME"), f"{o.rootname}_{o.suffix}")),
    "name_association": _renamed(lambda o: {b"EXPNAME": f"{o.rootname[:6]}010".upper()}),
    "name_last_letter": _renamed(lambda o: {b"EXPNAME": f"{o.rootname[:8]}{'j' if o.rootname[8] != 'j' else 'q'}"}),
    "no_names": _without_names,
}
_BODIES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "degenerate_axes": _degenerate,
    "nul_padding": _nul_padded,
    "unpadded": _unpadded,
    "extension_image": _in_extension,
    "tile_compressed": _tiles,
    "extra_blocks": lambda body: body + bytes(BLOCK),
    "trailing_newline": lambda body: body + b"\n",
    "trailing_remark": lambda body: body + b"<!-- served by fitscut -->\n",
    "gzip_body": lambda body: gzip.compress(body, 1, mtime=0),
}
