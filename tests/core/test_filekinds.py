"""Files that are no cutouts: whole ones of each kind are accepted, pages, texts, parts and other kinds are not."""

import gzip
import io
import json
import random
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from psfharvest.core.fits import filekinds
from psfharvest.core.fits.filekinds import MAX_SHORT_TEXT_BYTES, flaw_of_file
from psfharvest.core.model import Reason
from sampling import examples

MESSAGES = {
    "sentence": b"dataset parameter is required",
    "latin-1": "donn\xe9es non trouv\xe9es dans cette archive".encode("latin-1"),
    "utf-8": "données non trouvées\r\n".encode(),
    "utf-16": "dataset parameter is required".encode("utf-16"),
    "json": b'{"error": "no such dataset"}',
    "xml": b"<?xml version='1.0'?><error>no such dataset</error>",
    "long": b"line of a message\n" * 3000,
}
PAGES = {
    "page": b"<html><body>down</body></html>",
    "doctype": b"\n <!DOCTYPE html><p>x",
    "bom": b"\xef\xbb\xbf<HTML>",
    "comment": b"<!-- a proxy -->\n<html>",
    "xhtml": b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">',
    "large": b"<html>" + b"<p>x" * 10**5,
}

MESSAGE_REASONS = (Reason.TEXT_PAGE, Reason.NOT_FITS, Reason.WRONG_KIND, Reason.HTML_PAGE)


def written(hdu: fits.PrimaryHDU) -> bytes:
    file = io.BytesIO()
    hdu.writeto(file)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a/b.fits")
        info.size = 3000
        archive.addfile(info, io.BytesIO(random.Random(1).randbytes(3000)))
    return file.getvalue()


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (40, 40), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "x" * 100)
    return file.getvalue()


FITS = written(fits.PrimaryHDU(np.random.default_rng(2).normal(size=(40, 40)).astype(">f4")))
WHOLE = {
    "a.fits": FITS,
    "a_drz.FITS": FITS,
    "a.fits.gz": gzip.compress(FITS),
    "two members.fits.gz": gzip.compress(FITS[:5000]) + gzip.compress(FITS[5000:]),
    "padded.fits.gz": gzip.compress(FITS) + bytes(512),
    "a.tar": tar(),
    "a.tar.gz": gzip.compress(tar()),
    "a.tgz": gzip.compress(tar()),
    "a.log.gz": gzip.compress(b"x" * 3000),
    "a.jpg": picture("JPEG"),
    "a.png": picture("PNG"),
    "a.gif": picture("GIF"),
    "a.pdf": b"%PDF-1.4\n" + b"\0binary" * 99 + b"\n%%EOF\n",
    "a.zip": zipped(),
    "a.json": json.dumps({"a": [1, 2]}).encode(),
    "a.xml": b"<?xml version='1.0'?>\n<VOTABLE></VOTABLE>\n",
}
"""By name; each loses its wholeness with its last bytes."""
ANYTHING = {
    "a.txt": MESSAGES["sentence"],
    "a.csv": b"id,filter\n1,F606W\n",
    "a.csv?version=2": b"id,filter\n1,F606W\n",
    "get.cgi?name=a.txt": b"id\n",
    "a.html": PAGES["page"],
    "a.htm": b"a part",
    "unnamed": b"\0\1\2\3" * 50,
    "unnamed.bin": random.Random(3).randbytes(5000),
    "unnamed catalogue": b"1 2 3\n" * MAX_SHORT_TEXT_BYTES,
    "unnamed fits": FITS,
    "unnamed gzip": gzip.compress(b"x"),
}


@pytest.mark.parametrize("name", [*WHOLE, *ANYTHING])
def test_whole_files_are_accepted(name):
    """A whole file of the kind that its name tells has no flaw."""
    assert None is flaw_of_file((WHOLE | ANYTHING)[name], name)


@pytest.mark.parametrize("name", [n for n in WHOLE if not n.startswith("padded")])
@settings(max_examples=examples(30))
@given(st.data())
def test_a_part_is_no_file(name, data):
    """Whatever is cut off the end of a file, the rest is not accepted."""
    body = WHOLE[name].rstrip(b"\n")
    if name.endswith(".tar"):  # one empty block is its end; what pads it behind that is not needed
        body = body[: -(-len(body.rstrip(b"\0")) // 512) * 512 + 512]
    end = data.draw(st.integers(0, len(body) - 1))

    assert None is not flaw_of_file(body[:end], name)


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize(
    "name", ["unnamed", "x?y=1", "a.bin", *(n for n in WHOLE if n[-4:] not in ("json", ".xml"))]
)
def test_a_message_is_no_file(name, message):
    """A short text is an error message, unless the name tells a kind of text."""
    assert flaw_of_file(message, name).reason in (
        Reason.TEXT_PAGE,
        Reason.NOT_FITS,
        Reason.WRONG_KIND,
        Reason.HTML_PAGE,
    )


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("name", ["unnamed", "a.bin", "a.txt", "a.csv", *WHOLE])
def test_a_web_page_is_no_file(name, page):
    """A web page of any size is none, unless the name says so."""
    assert Reason.HTML_PAGE is flaw_of_file(page, name).reason


@pytest.mark.parametrize(
    "page", [b"<h1>502 Bad Gateway</h1>", b"\xef\xbb\xbf<center><b>down", b"\n<P class='e'>no"]
)
def test_a_piece_of_a_page_is_no_table(page):
    """A message in HTML is none of the texts that a name tells, be it no whole page; a long text may be."""
    for name in ("a.txt", "a.csv", "a.dat"):
        assert Reason.HTML_PAGE is flaw_of_file(page, name).reason
    assert None is flaw_of_file(page.ljust(MAX_SHORT_TEXT_BYTES + 1), "a.txt")
    assert None is flaw_of_file(b"<pixels> are lower\n", "a.txt")


@pytest.mark.parametrize("name", ["a.json", "a.xml"])
def test_a_sentence_is_neither_json_nor_xml(name):
    """What claims to be JSON or XML is."""
    reason = Reason.WRONG_KIND if name == "a.json" else Reason.TEXT_PAGE
    assert reason is flaw_of_file(MESSAGES["sentence"], name).reason


@pytest.mark.parametrize("name", WHOLE)
def test_another_kind_is_refused(name):
    """Binary rubbish is no file of any known kind, and an empty body is none at all."""
    assert None is not flaw_of_file(b"\0\1\2\3" * 999, name)
    assert Reason.EMPTY is flaw_of_file(b"", name).reason


@pytest.mark.parametrize("size", [0, 1, 79, 2879, 2881, 5760, 11519])
def test_what_a_gzip_holds_is_checked(size):
    """A whole gzip of a part of a FITS file, or of a sentence, is refused."""
    assert None is not flaw_of_file(gzip.compress(FITS[:size]), "a.fits.gz")
    assert Reason.TEXT_PAGE is flaw_of_file(gzip.compress(MESSAGES["sentence"]), "a.fits.gz").reason
    assert Reason.TRAILING_BYTES is flaw_of_file(gzip.compress(FITS + b"x"), "a.fits.gz").reason
    assert Reason.WRONG_KIND is flaw_of_file(gzip.compress(b"y" * 1024), "a.tar.gz").reason


def test_a_gzip_with_a_wrong_checksum_is_refused():
    """One changed bit in a gzip's trailer is seen."""
    body = bytearray(gzip.compress(FITS))
    body[-5] ^= 1

    assert Reason.WRONG_KIND is flaw_of_file(bytes(body), "a.fits.gz").reason


@pytest.mark.parametrize("piece", [1, 7, 80, 2880, 10**6])
def test_fits_in_pieces_is_judged_as_in_one(piece):
    """Wherever a FITS file with extensions is cut into pieces, the verdict is that on the whole."""
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((5, 5))), fits.ImageHDU(np.ones(7))])
    file = io.BytesIO()
    hdus.writeto(file)
    body = file.getvalue()
    for end in (len(body), len(body) - 1, 2880, 5000):
        stream = filekinds.fitscheck.FitsStream()
        found = None
        for at in range(0, end, piece):
            found = found or stream.feed(body[:end][at : at + piece])
        whole = filekinds.fitscheck.flaw(body[:end], None)
        assert (whole is None) == ((found or stream.end()) is None)


def fits_head(size):
    """The header of a FITS file of one dimension."""
    cards = ("SIMPLE  =                    T ", "BITPIX  =                    8 ",
             "NAXIS   =                    1 ", f"NAXIS1  = {size:20d} ", "END")  # fmt: skip
    return b"".join(card.ljust(80).encode() for card in cards).ljust(2880)


@pytest.mark.parametrize("name", ["a.gz", "a.tar.gz", "a", "a.fits.gz"])
def test_a_check_that_inflates_ends_where_it_is_told_to(name):
    """It may take seconds, and an interrupt must not wait for that."""
    n_looks = 0

    class Enough(Exception):
        pass

    def look():
        nonlocal n_looks
        n_looks += 1
        if n_looks == 3:
            raise Enough

    with pytest.raises(Enough):
        flaw_of_file(gzip.compress(fits_head(2**23) + bytes(2**23)), name, look)


@pytest.mark.campaign
def test_a_gzip_bomb_is_refused_in_flat_memory():
    """A gzip of two gigabytes of zeros behind a FITS header is refused for its size, piece by piece."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = pack.compress(fits_head(2**31)) + pack.flush(zlib.Z_FULL_FLUSH)
    one = pack.compress(bytes(2**20)) + pack.flush(zlib.Z_FULL_FLUSH)  # behind a full flush it can be repeated

    assert Reason.TOO_LARGE is flaw_of_file(start + one * 2**11, "a.fits.gz").reason
