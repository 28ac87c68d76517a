"""Check the header and the length of each FITS file in a folder, without astropy: whether it is whole."""

import sys
from pathlib import Path

BLOCK_BYTES, CARD_BYTES = 2880, 80


def fault(body: bytes) -> str:
    """Return what is wrong with the first image of a file, or nothing."""
    if body[:10].rstrip() != b"SIMPLE  =" or len(body) % BLOCK_BYTES:
        return "no FITS file, or cut off"
    values = {}
    for start in range(0, len(body), CARD_BYTES):
        card = body[start : start + CARD_BYTES]
        if not card.isascii() or b"\n" in card:
            return "a card that is no text"
        if card.rstrip() == b"END":
            break
        if card[8:10] == b"= ":
            values[card[:8].rstrip()] = card[10:].partition(b"/")[0].strip()
    else:
        return "no END"
    header_bytes = -(-(start + CARD_BYTES) // BLOCK_BYTES) * BLOCK_BYTES
    size_bytes = abs(int(values[b"BITPIX"])) // 8
    for axis in range(int(values[b"NAXIS"])):
        size_bytes *= int(values[b"NAXIS%d" % (axis + 1)])
    return "" if len(body) >= header_bytes + size_bytes else "fewer pixels than the header says"


if __name__ == "__main__":
    bad = [path for path in Path(sys.argv[1]).iterdir() if fault(path.read_bytes())]
    sys.exit(f"{len(bad)} are no whole FITS files" if bad else 0)
