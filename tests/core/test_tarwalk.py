"""The tar walk against the standard library's tars, whole, cut, and changed."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.tar import BLOCK, Header, Member, TarDamaged, TarWalk, header, parse_header, pax_path

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/\\:", exclude_categories=["Cs", "Cc"]),
    min_size=1,
    max_size=150,
)
PATHS = st.lists(NAMES.filter(lambda n: n not in (".", "..")), min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.binary(max_size=3000), max_size=6)


def tar_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def walked(data: bytes, step: int, max_bytes: int = 10**6) -> tuple[list[Member], TarWalk]:
    walk = TarWalk(max_bytes, lambda name: True)
    found: list[Member] = []
    for start in range(0, len(data), step):
        found += walk.feed(data[start : start + step])
    return found, walk


@given(files=FILES, step=st.integers(1, 3000), form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_tarfile_writes_comes_out_whole(files: dict[str, bytes], step: int, form: int) -> None:
    """Names and bodies are those that went in, however the bytes are cut into pieces."""
    found, walk = walked(tar_of(files, form), step)

    assert files == {m.name: m.body for m in found}
    assert walk.is_ended


@given(files=FILES, cut=st.floats(0, 1), step=st.integers(1, 3000))
def test_a_cut_tar_gives_what_is_whole_and_no_more(files: dict[str, bytes], cut: float, step: int) -> None:
    """Every member before the cut comes out, none behind it."""
    data = tar_of(files)
    found, walk = walked(data[: int(len(data) * cut)], step)

    assert list(files.items())[: len(found)] == [(m.name, m.body) for m in found]
    assert len(found) == len(files) or not walk.is_ended


@given(files=FILES, at=st.integers(0, 20_000), value=st.integers(0, 255), step=st.integers(1, 3000))
def test_a_changed_byte_never_chokes_the_walk(files: dict[str, bytes], at: int, value: int, step: int) -> None:
    """A damaged tar is told as such, or walked; nothing else is raised, and names stay inside."""
    data = bytearray(tar_of(files))
    data[at % len(data)] = value
    try:
        found, _ = walked(bytes(data), step)
    except TarDamaged:
        return

    assert all(".." not in m.name.split("/") for m in found if not m.problem)


@given(st.binary(max_size=5000))
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    """No input raises anything but the one error, or asks for memory that it did not bring."""
    try:
        found, _ = walked(data, 700)
    except TarDamaged:
        return

    assert sum(len(m.body) for m in found) <= len(data)


@given(name=NAMES, size=st.integers(0, 8**11 - 1))
def test_a_header_says_what_was_written(name: str, size: int) -> None:
    """Ours and the standard library's are read alike: size, kind and name; a long name is in pax records."""
    head = header(name, size)
    last = parse_header(head[-BLOCK:])
    told = pax_path(head[BLOCK : BLOCK + parse_header(head[:BLOCK]).size]) if len(head) > BLOCK else last.name

    assert (size, b"0", name.encode()) == (last.size, last.kind, told)
    info = tarfile.TarInfo(name)
    info.size = size
    if len(name.encode()) <= 100:
        assert last == parse_header(info.tobuf(tarfile.GNU_FORMAT))
    assert tarfile.TarInfo.frombuf(head[-BLOCK:], "utf-8", "surrogateescape").size == size


@given(name=NAMES, at=st.integers(0, BLOCK - 1), value=st.integers(1, 255))
def test_a_header_with_a_changed_byte_is_none(name: str, at: int, value: int) -> None:
    """Its checksum is wrong, unless the byte is padding of the checksum itself; a short block is none either."""
    head = bytearray(header(name[:20], 5))
    whole = parse_header(bytes(head))
    head[at] = (head[at] + value) % 256

    assert parse_header(bytes(head)) is None or (148 <= at < 156 and parse_header(bytes(head)) == whole)
    assert parse_header(bytes(head[:-1])) is None


@given(st.dictionaries(st.from_regex(r"[a-z.]{1,9}", fullmatch=True), st.text(max_size=150), max_size=5), NAMES)
def test_a_path_among_other_pax_records(records: dict[str, str], name: str) -> None:
    """The path is found before and behind others, whatever they hold; cut records give none."""
    made = tarfile.TarInfo._create_pax_generic_header({**records, "path": name}, tarfile.XHDTYPE, "utf-8")
    size = parse_header(made[:BLOCK]).size

    assert name.encode() == pax_path(made[BLOCK : BLOCK + size])
    assert pax_path(made[BLOCK : BLOCK + size - 1]) == b""


@pytest.mark.parametrize("records", [b"x path=a\n", b"0 path=a\n", b"99 path=a\n", b"5 a=\n", b"10 path=ab", b"\n"])
def test_damaged_pax_records_have_no_path(records: bytes) -> None:
    """A length that is none, too large, too small or zero ends the reading."""
    assert b"" == pax_path(records)


def test_a_number_of_256_digits_is_a_size() -> None:
    """Members past 8 GiB have their size in binary."""
    info = tarfile.TarInfo("x")
    info.size = 8**11

    assert Header(8**11, b"0", b"x") == parse_header(info.tobuf(tarfile.GNU_FORMAT))


def special(kind: bytes, name: str = "x.fits", size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_what_is_no_regular_file_is_refused(kind: bytes) -> None:
    """Links, devices and pipes are named as refused, and the walk goes on behind them."""
    found, _ = walked(special(kind) + tar_of({"good": b"body"}), 512)

    assert ["no regular file" in found[0].problem, Member("good", b"body")] == [True, found[1]]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "C:/x", "\\\\host\\x"])
def test_paths_that_lead_out_are_refused(name: str) -> None:
    """Absolute and parent paths are refused, and nothing of them is read."""
    found, _ = walked(
        special(tarfile.REGTYPE, name, 4) + b"evil".ljust(512, b"\0") + tar_of({"good": b"body"}), 512
    )

    assert found[0].problem
    assert b"" == found[0].body
    assert Member("good", b"body") == found[1]


def test_a_member_past_the_cap_is_passed_over() -> None:
    """A declared size past the cap is refused at once, without the bytes being held."""
    walk = TarWalk(1000, lambda name: True)
    (refused,) = walk.feed(special(tarfile.REGTYPE, "huge.fits", 10**11))
    for _ in range(100):
        assert [] == list(walk.feed(bytes(10**6)))

    assert "too many" in refused.problem
    assert not walk.is_between_members


def test_trailing_bytes_behind_the_end_are_ignored() -> None:
    """After the end mark nothing is read."""
    found, walk = walked(tar_of({"good": b"body"}) + b"garbage" * 1000, 100)

    assert [Member("good", b"body")] == found
    assert walk.is_between_members
