"""Every reader of hostile bytes keeps its law: any bytes, real answers spoilt, and inputs that once broke it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hostile import laws, seeds
from hostile.mutations import anything
from psfharvest.archive.catalog.answer import parse, rows_of
from psfharvest.archive.catalog.rows import Unreadable
from psfharvest.core.fits.fitscheck import MAX_HEADER_BLOCKS, flaw
from psfharvest.core.model import Reason
from psfharvest.core.tar import TarDamaged
from sampling import examples


def fits_file(*cards: str, size: int = 2880) -> bytes:
    """A header of these cards behind those of a cutout, and its data."""
    plain = ("SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2",
             "NAXIS1  =                   11", "NAXIS2  =                   11")  # fmt: skip
    text = b"".join(card.encode().ljust(80) for card in (*plain, *cards, "END"))
    return text.ljust(laws.blocks(len(text))) + bytes(size)


@pytest.mark.parametrize("target", list(laws.LAWS))
def test_the_archives_own_answers_keep_the_law(target: str) -> None:
    """What the simulator sends is within the law: it does not hold by refusing everything."""
    for seed in seeds.SEEDS[target]():
        laws.LAWS[target](seed)


@settings(max_examples=examples(400))
@given(anything("fits"))
@example(fits_file("BSCALE  = 'abc'"))
@example(fits_file("BSCALE  ="))
@example(fits_file("BZERO   = 1D400"))
@example(fits_file("BSCALE  = 2.", "BZERO   =                 -1.5", "BSCALE  = 'later'"))
@example(fits_file("NAXIS   = 1"))
@example(b"SIMPLE  =" + b" " * 71 + b"BITPIX  = 8".ljust(80) + b"NAXIS   = 999".ljust(80) + b"END".ljust(80))
def test_any_bytes_are_checked(body: bytes) -> None:
    """The FITS check agrees with a plain reading of the standard, and what passes has pixels."""
    laws.law_fits(body)


@settings(max_examples=examples(300))
@given(anything("tar"))
def test_any_bytes_are_walked(data: bytes) -> None:
    """The tar walk gives what is whole, inside and within its cap, however the bytes come."""
    laws.law_tar(data)


@settings(max_examples=examples(150))
@given(anything("mashup"))
@example(b'{"status": "ERROR", "msg": "\\u001b]0;owned\\u0007 invalid column name \'\\u202e\'"}')
@example(b'{"status": "COMPLETE", "data": [{"n": ' + b"9" * 4300 + b'}], "fields": []}')
@example(b'{"status": {"a": ["\\ud800"]}}')
@example(b'{"data":[{"id":1,"r":"\\ud800"}],"fields":[{"name":"id","type":"int"},{"name":"r","type":"string"}]}')
@example(b'{"data":[{"id":"' + b"x" * 5000 + b'"}],"fields":[{"name":"id","type":"float"}]}')
@example(b'{"data":[{"\\ud800":1}],"fields":[{"name":"\\ud800","type":"int"}]}')
def test_any_answer_to_a_query(body: bytes) -> None:
    """A query ends by a count, by rows, or by our two errors in words that a terminal can show."""
    laws.law_mashup(body)


TEXTS = st.text(st.characters(codec=None), max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass"))


@settings(max_examples=examples(400))
@given(anything("datauri") | TEXTS)
@example("mast:\u212a/\u0131".encode())
@example(seeds.cutout_uri().replace("ibc302ioq", "con").encode())
def test_any_text_as_a_datauri(text: bytes) -> None:
    """A text is refused, or read losslessly and given a key that harms no file system."""
    laws.law_datauri(text)


@settings(max_examples=examples(200))
@given(anything("list"))
@example(b"x" * 30_000 + b"\nmast:a")
@example(b"mast:" + b"a" * 9_994 + b"\nmast:b")
@example(b"\n" * 4001 + b"mast:b")
def test_any_bytes_as_a_list(data: bytes) -> None:
    """A list of any bytes is read line by line, none lost, from the start and from each checkpoint."""
    laws.law_list(data)


# What once went wrong, said plainly.


@pytest.mark.parametrize(
    "card", ["BSCALE  = 'abc'", "BZERO   =", "BSCALE  = NaN", "BZERO   = 1E999", "BSCALE  = 1_0"]
)
def test_a_cutout_whose_pixels_cannot_be_had_is_refused(card: str) -> None:
    """A scale that is no finite number is no cutout: it was stored once, and broke whoever read it."""
    assert None is flaw(fits_file("BSCALE  =  1.5E0 / fine"), 11)
    found = flaw(fits_file(card), 11)

    assert found is not None
    assert Reason.NOT_FITS is found.reason
    assert card[:6] in found.detail


def test_the_longest_refusal_is_short() -> None:
    """A header with a thousand bad axes is refused in few words."""
    axes = [f"NAXIS{n:<3}= {10**17}" for n in range(1, 998)]
    body = fits_file(*axes, "NAXIS998= x").replace(
        b"NAXIS   =                    2", b"NAXIS   =                  998"
    )
    found = flaw(body, 11)

    assert found is not None
    assert len(found.detail) < 200


def test_headers_up_to_the_limit_are_read() -> None:
    """The last header that fits the limit is read, and one card more is refused."""
    n = MAX_HEADER_BLOCKS * 36 - 6

    assert None is flaw(fits_file(*["COMMENT"] * n), 11)
    assert None is not flaw(fits_file(*["COMMENT"] * (n + 1)), 11)


@pytest.mark.parametrize(
    "size", [b"-0000001000\0", b"+0000000010\0", b"0o000000010\0", b"0_000000010\0", b"-1\0".ljust(12)]
)
def test_sizes_that_python_would_read_are_no_tars(size: bytes) -> None:
    """A negative size once took what stood behind it for a member's body."""
    head = bytearray(tarfile.TarInfo("x.fits").tobuf(tarfile.USTAR_FORMAT))
    head[124:136] = size
    data = laws.with_right_sums(bytes(head)) + b"A" * 4096

    assert ([], "damaged") == laws.walked(data, 512)
    with pytest.raises(TarDamaged, match="no tar's"):
        list(laws.TarWalk(100, lambda name: True).feed(data))


def test_a_size_in_base_256_may_be_astronomical() -> None:
    """Ten bytes of size are refused and passed over for as long as bytes come; nothing of it is held."""
    info = tarfile.TarInfo("x.fits")
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" * 12
    members, ending = laws.walked(laws.with_right_sums(bytes(head)) + bytes(10**6), 4096)

    assert ("too many" in members[0].problem, ending) == (True, "within")


N_VALUES = 300_000
ID = [{"name": "id", "type": "int"}]
BOMBS: dict[str, Callable[[], dict]] = {
    "columns times rows": lambda: {
        "data": [{"id": n} for n in range(1000)],
        "fields": ID + [{"name": f"c{n}", "type": "int"} for n in range(1000)],
    },
    "columns alone": lambda: {
        "data": [{"id": 1}],
        "fields": [{"name": str(n), "type": "x"} for n in range(N_VALUES)],
    },
    "empty lists": lambda: {"data": [[]] * N_VALUES, "fields": ID},
    "empty objects": lambda: {"data": [{}] * N_VALUES, "fields": ID},
    "objects like no other": lambda: {"data": [{"id": 1}] + [{"a": n} for n in range(N_VALUES)], "fields": ID},
}
"""Made when they are tried: a million objects would be looked through by every garbage collection before."""


@pytest.mark.parametrize("name", BOMBS)
def test_answers_that_would_grow_in_memory_are_refused(name: str) -> None:
    """Few bytes that stand for many values are refused: rows take no more room than the text they came in."""
    with pytest.raises(Unreadable):
        rows_of(parse(json.dumps({"status": "COMPLETE"} | BOMBS[name](), separators=(",", ":")).encode()))


@pytest.mark.campaign
def test_eighty_thousand_columns_with_their_values_are_read() -> None:
    """A table may be wide, where every value is there."""
    names = [f"c{n}" for n in range(80_000)]
    data = {"data": [dict.fromkeys(names, 1)] * 2, "fields": [{"name": n, "type": "int"} for n in names]}

    assert [(1,) * 80_000] * 2 == rows_of(parse(json.dumps(data).encode())).values


def test_half_a_surrogate_pair_can_be_stored() -> None:
    """JSON may hold half a character: it becomes a question mark, as in any other text that cannot be written."""
    fields = [{"name": "r\ud800", "type": "string"}]
    found = rows_of(parse(json.dumps({"data": [{"r\ud800": "a\udfffb"}], "fields": fields}).encode()))

    assert (("r?",), [("a?b",)]) == (found.columns, found.values)
