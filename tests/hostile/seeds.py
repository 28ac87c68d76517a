"""Real answers of the simulated archive to begin from, and the words that hostile ones are made with."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from functools import cache
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
from astropy.io import fits

from psfharvest.simulator import Settings, Simulator

BARE_URI = "mast:HST/product/ibc302ioq_flt.fits"


def cutout_uri(k: int = 0, size: int = 11) -> str:
    """The dataURI of one of many sources of a real exposure."""
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size={size}&x=99.4127&y=100.2683"
        f"&format=fits/ibc302ioq_{8184981 + k}_F814W_flt_cutout.fits"
    )


@cache
def render(k: int = 0) -> bytes:
    """What fitscut sends for it."""
    return Simulator(Settings(sources=0)).render(cutout_uri(k))


@cache
def fits_seeds() -> tuple[bytes, ...]:
    """A real cutout; the same in an extension, scaled, and behind a table."""
    table = fits.BinTableHDU.from_columns([fits.Column("a", "5B", array=np.ones((5, 5), "u1"))])
    cards = fits.Header({"EXPNAME": "ibc302ioq"})
    scaled = fits.ImageHDU(np.ones((11, 11), ">i2"), cards)
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 32768
    extended = [
        [fits.PrimaryHDU(), fits.ImageHDU(np.ones((11, 11), ">f4"), cards)],
        [fits.PrimaryHDU(), table, fits.ImageHDU(np.ones((11, 11), ">f4"))],
        [fits.PrimaryHDU(np.ones((2, 3, 4, 5), "u1"))],
    ]
    return (render(), *map(_written, extended), _written([fits.PrimaryHDU(), scaled]))


def _written(units: list[fits.PrimaryHDU | fits.ImageHDU | fits.BinTableHDU]) -> bytes:
    file = io.BytesIO()
    fits.HDUList(units).writeto(file)
    return file.getvalue()


@cache
def tar_seeds() -> tuple[bytes, ...]:
    """A bundle of the simulator's, inflated; and tars of the other dialects, with whatever a tar may hold."""
    form = "&".join(f"uri={quote(cutout_uri(k), safe='')}" for k in range(2)).encode()
    with (
        Simulator(Settings(sources=0)) as sim,
        urlopen(f"{sim.url}/api/v0.1/Download/bundle.tar.gz", form) as answer,
    ):
        real = gzip.decompress(answer.read())
    return (real, *(dialect(form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)))


def dialect(form: int) -> bytes:
    """One tar with long names, links, devices and a sparse file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, kind in (
            ("plain", tarfile.REGTYPE), ("dir/" + "n" * 90, tarfile.REGTYPE), ("é" * 40, tarfile.REGTYPE),
            ("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dev", tarfile.CHRTYPE), ("d", tarfile.DIRTYPE),
            ("sparse", tarfile.GNUTYPE_SPARSE), ("/abs", tarfile.REGTYPE), ("../up", tarfile.REGTYPE),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "plain" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            info.size = 700 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"body" * 175))
        if form != tarfile.USTAR_FORMAT:
            info = tarfile.TarInfo("folder/" + "long" * 60)
            tar.addfile(info, io.BytesIO())
    return out.getvalue()


@cache
def mashup_seeds() -> tuple[bytes, ...]:
    """A count, rows, an error and a wait, as the simulator answers."""
    service, some = (
        "Mast.Catalogs.Filtered.Wfc3Psf.Uvis",
        [{"paramName": "psf_x_center", "values": [{"min": 100, "max": 101}]}],
    )
    asked = [
        {"service": service, "params": {"columns": columns, "filters": some}, "format": "json", "page": 1}
        for columns in ("COUNT_BIG(*)", "*", "id,chip", "no_such_column")
    ]
    answers = [b'{"status": "EXECUTING", "msg": "", "data": [], "fields": []}']
    with Simulator(Settings(sources=300)) as simulator:
        for request in asked:
            form = f"request={quote(json.dumps(request | {'pagesize': 10}))}".encode()
            with urlopen(f"{simulator.url}/api/v0/invoke", form) as answer:
                answers.append(answer.read())
    return tuple(answers)


def datauri_seeds() -> tuple[bytes, ...]:
    """DataURIs of every kind."""
    wfpc2 = cutout_uri().replace("WFC3", "WFPC2").replace("flt", "d0m").replace("F814W", "F606W/POL")
    return tuple(
        uri.encode() for uri in (cutout_uri(), wfpc2, BARE_URI, "mast:HLA/url/x.cgi?red=a&format=fits/a.fits")
    )


def list_seeds() -> tuple[bytes, ...]:
    """Lists: plain, with comments and a mark of byte order, with line ends of another system, and broken."""
    every = [uri.decode() for uri in datauri_seeds()]
    plain = "\n".join([*every, "# comment", "", "no uri", *every]).encode()
    return (
        plain,
        b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"),
        b"mast:\xff\n\0\n" + b"x" * 300,
        b"mast:a\n" * 2001,
    )


SEEDS: dict[str, Callable[[], tuple[bytes, ...]]] = {
    "fits": fits_seeds,
    "tar": tar_seeds,
    "mashup": mashup_seeds,
    "datauri": datauri_seeds,
    "list": list_seeds,
}

WORDS: dict[str, list[bytes]] = {
    "fits": [
        *(
            card.encode().ljust(80)
            for card in (
                "END",
                "SIMPLE  =                    T",
                "XTENSION= 'IMAGE   '",
                "XTENSION= 'BINTABLE'",
                "BITPIX  =  -32",
                "BITPIX  =                   -33",
                "BITPIX  =                    8",
                "BITPIX  = 'x'",
                "NAXIS   =                    0",
                "NAXIS   =                    2",
                "NAXIS   =                  999",
                "NAXIS   =                   -2",
                "NAXIS1  =                   11",
                "NAXIS1  =        1000000000000",
                "NAXIS1  =                  -11",
                "NAXIS1  = 1E1",
                "NAXIS1  = NaN",
                "NAXIS1  = 11.0",
                "NAXIS2  =   999999999999999999",
                "NAXIS2  = 1111111111111111111",
                "NAXIS2  =                    0",
                "NAXIS3  =                    1",
                "PCOUNT  =           1000000000",
                "PCOUNT  =                   -1",
                "GCOUNT  =                    0",
                "GCOUNT  =   999999999999999999",
                "BSCALE  =                  0.5",
                "BSCALE  = 'abc'",
                "BSCALE  =",
                "BSCALE  = 1D400",
                "BSCALE  = NaN",
                "BZERO   = 1E308",
                "BZERO   = .",
                "ROOTNAME= 'other'",
                "EXPNAME = 'IBC302IOQ'",
                "COMMENT END",
                "CONTINUE  'x'",
                "HIERARCH a b = 1",
            )
        ),
        b"END",
        b"XTENSION",
        bytes(2880),
        b" " * 2880,
        b"<html>",
        b"Some image dimensions are negative",
    ],
    "tar": [
        bytes(512),
        bytes(1024),
        b"ustar\x0000",
        b"ustar  \0",
        b"-0000000777\0",
        b"+0000000777\0",
        b"00000000777\0",
        b"77777777777\0",
        b"\x80" + bytes(10) + b"\x09",
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"0o000000777\0",
        b"0_000000777\0",
        b"../../x",
        b"/etc/passwd",
        b"C:/x",
        b"30 path=../../../../../../../../../e\n",
        b"14 size=99999\n",
        b"././@LongLink",
        b"NaN",
        b"\xff\xfe",
    ],
    "mashup": [
        b'{"',
        b'":',
        b"[",
        b"]",
        b"{",
        b"}",
        b"null",
        b"true",
        b"1e400",
        b"-1e400",
        b"NaN",
        b"Infinity",
        b'"\\ud800"',
        b"1" * 30,
        b"1" * 4300,
        b"1" * 4301,
        b'"id"',
        b'"name"',
        b'"type"',
        b'"data"',
        b'"fields"',
        b'"status"',
        b'"COMPLETE"',
        b'"ERROR"',
        b'"EXECUTING"',
        b'"msg"',
        b'"int"',
        b'"float"',
        b'"boolean"',
        b'"string"',
        b"\"Invalid column name 'x'\"",
        b"[" * 500,
        b'{"id":' * 500,
        b"\xff",
        b"\0",
        b"\\u0000",
        b"-0",
        b"9007199254740993",
    ],
    "datauri": [
        b"mast:",
        b"WFC3PSF",
        b"WFPC2PSF",
        b"/url/cgi-bin/fitscut.cgi?red=",
        b"[1]",
        b"[999]",
        b"&size=",
        b"&x=",
        b"&y=",
        b"&format=fits/",
        b"_cutout.fits",
        b"_flt",
        b"_d0m",
        b"..",
        b"/",
        b"//",
        b"\\",
        b"%2F",
        b"%00",
        b"\0",
        b"\n",
        b"CON",
        b"nul.fits",
        b".",
        b"~",
        b"manifest.sqlite",
        b"shards",
        b"?",
        b"#",
        b"1e999",
        b"nan",
        b"\xed\xa0\x80",
        b"a" * 300,
        "é".encode(),
        "\u202e".encode(),
    ],
    "list": [
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"#",
        b"mast:",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"x" * 10_001,
        b"\x1a",
        b"\xe2\x80\xa8",
    ],
}
"""What mutations insert: a dictionary for each target."""
