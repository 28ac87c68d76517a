"""Bundles are tars that tarfile reads, with members that are byte for byte the cutouts."""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator

import httpx
import pytest

from harness import is_refused
from psfharvest.simulator import Fault

BROKEN = (tarfile.ReadError, EOFError, zlib.error, gzip.BadGzipFile)


def members(body: bytes) -> list[tuple[str, bytes]]:
    """Read a tar.gz whole: names and contents."""
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
        return [(info.name, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]


def heads(body: bytes) -> Iterator[tarfile.TarInfo]:
    """Read the heads of a tar.gz as far as they can be read."""
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
        while True:
            try:
                info = tar.next()
            except BROKEN:
                return
            if info is None:
                return
            yield info


def file_of(uri: str) -> str:
    """Give the file name of a dataURI."""
    return uri.rsplit("/", 1)[-1]


def below_root(found: list[tuple[str, bytes]]) -> dict[str, bytes]:
    """Give contents by path below the root directory."""
    return {name.partition("/")[2]: body for name, body in found[1:]}


@pytest.mark.parametrize("more", [{}, {"bundle_level": 0}, {"bundle_level": 9}, {"static": True}])
def test_members_are_the_cutouts(start, uris, more):
    """Root directory first, then the cutouts in the asked order, then the manifest, at every level."""
    asker = start(**more)
    found = members(asker.bundle(uris).content)
    names = [name.partition("/")[2] for name, _ in found]

    assert re.fullmatch(r"MAST_\d{4}-\d\d-\d\dT\d{4}", found[0][0])
    assert ["", *(f"WFC3PSF/{file_of(uri)}" for uri in uris), "MANIFEST.HTML"] == names
    assert [asker.sim.render(uri) for uri in uris] == [body for _, body in found[1:-1]]


def test_tar_headers_are_sound(start, uris):
    """Directory and files have the modes of what they are, and tarfile's safe filter takes them."""
    with tarfile.open(fileobj=io.BytesIO(start().bundle(uris).content), mode="r:gz") as tar:
        root, first, *_ = tar.getmembers()

        assert root.isdir()
        assert (root.mode, first.mode, first.size) == (0o755, 0o644, 20_160)
        assert not is_refused(first)
        assert not first.name.startswith("/")


def test_long_names_survive(start, uris):
    """A name of more than 100 bytes comes out whole."""
    long = uris[0].replace("_cutout.fits", "_" + "x" * 120 + "_cutout.fits")
    found = below_root(members(start().bundle([long]).content))

    assert f"WFC3PSF/{file_of(long)}" in found


def test_manifest_lists_everything(start, uris):
    """The manifest counts and names all URIs, escaped, and tells which have failed."""
    asker = start()
    gone = uris[0].replace("ibc302ioq", "ixxx02ioq").replace("iepp20nkq", "ixxx20nkq")
    page = below_root(members(asker.bundle([*uris[1:], gone]).content))["MANIFEST.HTML"].decode()

    assert "<h3>Total Files: 6</h3>" in page
    assert uris[1].replace("&", "&amp;") in page
    assert (page.count("<td>OK</td>"), page.count("<td>ERROR</td>")) == (5, 1)


def test_manifest_may_come_first_or_not_at_all(start, uris):
    """Where the manifest stands is a switch, and it knows of failures before they come."""
    gone = uris[0].replace("y=", "y=-9999")
    first = members(start(bundle_manifest="first").bundle([*uris[1:], gone]).content)
    none = members(start(bundle_manifest="none").bundle(uris).content)

    assert first[1][0].endswith("/MANIFEST.HTML")
    assert first[1][1].count(b"<td>ERROR</td>") == 1
    assert len(none) == 7


@pytest.mark.parametrize(
    ("how", "expected"),
    [("absent", None), ("empty", b""), ("error", b"Some image dimensions are negative for all planes")],
)
def test_failed_member(start, uris, how, expected):
    """A failed cutout is absent, empty, or the error's text, as the switch says."""
    gone = uris[0].replace("y=", "y=-9999")
    found = below_root(members(start(bundle_failed=how).bundle([gone, *uris[1:]]).content))

    assert expected == found.get(f"WFC3PSF/{file_of(gone)}")


def test_two_sizes_of_one_source(start, uris):
    """Two URIs with one file name are two members of that name, or one."""
    pair = [uris[0], uris[0].replace("size=51", "size=101")]

    assert len(members(start().bundle(pair).content)) == 4
    assert len(members(start(bundle_same_name="first").bundle(pair).content)) == 3


def test_limit_on_uris(start, uris):
    """A bundle of too many URIs is refused with the set status."""
    asker = start(max_bundle_uris=5, max_bundle_status=400)

    assert (asker.bundle(uris).status_code, asker.bundle(uris[:5]).status_code) == (400, 200)


def test_bundle_is_streamed(start, uris):
    """A bundle comes chunked, piece by piece, with no length."""
    asker = start(bundle_level=0)
    with asker.http.stream("POST", "/api/v0.1/Download/bundle.tar.gz", data={"uri": uris * 30}) as answer:
        pieces = list(answer.iter_raw())

        assert "content-length" not in answer.headers
    assert len(pieces) > 3


def test_drop(start, uris):
    """A dropped member is not in the tar, and comes with the next bundle."""
    asker = start("bundle_drop:times=1,match=ibc302ioq")
    one, two = (below_root(members(asker.bundle(uris).content)) for _ in range(2))

    assert {f"WFC3PSF/{file_of(uris[0])}"} == set(two) - set(one)


def test_each_fault_has_its_own_bundles(start, uris):
    """A fault of members befalls the bundles that hold one of its own, and leaves the others to those behind it."""
    one, two, three = uris[0], uris[1], uris[2]
    asker = start(
        Fault("bundle_drop", match=one), Fault("bundle_corrupt", form="html", match=two), Fault("html", match=three)
    )
    found = [asker.bundle([uri, *uris[3:]]).content for uri in (one, two, three)]

    assert f"WFC3PSF/{file_of(one)}" not in below_root(members(found[0]))
    assert below_root(members(found[1]))[f"WFC3PSF/{file_of(two)}"].startswith(b"<!DOCTYPE html>")
    assert found[2].startswith(b"<!DOCTYPE html>")
    assert ["bundle_drop", "bundle_corrupt", "html"] == [seen.fault for seen in asker.sim.requests]


def test_a_bundle_counts_for_each_of_its_cutouts(start, uris):
    """A whole bundle fails once for each of its URIs: what is asked for again comes, in any order and company."""
    asker = start(Fault("status", code=503, service="bundle", times=1))
    statuses = [asker.bundle(asked).status_code for asked in (uris[:4], uris[3::-1], uris[3:], uris[4:])]

    assert [503, 200, 200, 503] == statuses


def test_drop_of_some(start, uris):
    """Without a condition on URIs, as many members as told are dropped, in the chosen bundles only."""
    asker = start("bundle_drop:members=2,nth=1")
    sizes = [len(members(asker.bundle(uris).content)) for _ in range(2)]

    assert sizes == [6, 8]


@pytest.mark.parametrize("form", ["cut", "html", "text", "empty", "bits", "shape", "source", "long"])
def test_corrupt_member(start, uris, form):
    """One member is damaged, and the others are not."""
    asker = start(f"bundle_corrupt:{form},match=ibc302ioq")
    found = below_root(members(asker.bundle(uris).content))
    wrong = [uri for uri in uris if found[f"WFC3PSF/{file_of(uri)}"] != asker.sim.render(uri)]

    assert [uris[0]] == wrong


@pytest.mark.parametrize("fault", ["bundle_corrupt:stream", "bundle_cut:3000,framing=clean"])
def test_broken_stream(start, uris, fault):
    """A stream that is damaged, or ends early behind an orderly HTTP end, cannot be read to its end."""
    body = start(fault).bundle(uris * 3).content
    with pytest.raises(BROKEN):
        gzip.decompress(body)


def test_a_changed_pixel_shows_in_the_checksum_only(start, uris):
    """Every member looks whole, one is not what it was, and the stream's checksum is another's."""
    asker = start("bundle_corrupt:pixel,match=ibc302ioq")
    body = asker.bundle(uris).content
    plain = zlib.decompressobj(-15).decompress(body[10:])
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        found = {m.name.rpartition("/")[2]: tar.extractfile(m).read() for m in tar.getmembers() if m.isreg()}
    whole, changed = asker.sim.render(uris[0]), found[file_of(uris[0])]

    assert [len(whole) - 2000] == [at for at in range(len(whole)) if whole[at] != changed[at]]
    assert asker.sim.render(uris[1]) == found[file_of(uris[1])]
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(body)


def test_cut_between_members(start, uris):
    """A bundle that ends early between members, and in order, merely has fewer of them."""
    found = members(start("bundle_cut:0.5,framing=clean").bundle(uris).content)

    assert len(found) == 4


def test_cut_transport(start, uris):
    """A bundle that is cut has no final chunk."""
    with pytest.raises(httpx.RemoteProtocolError):
        start("bundle_cut:0.5").bundle(uris)


def test_foreign_and_double(start, uris):
    """A member that nobody asked for is added; a member comes twice."""
    foreign = below_root(members(start("bundle_foreign").bundle(uris).content))
    double = members(start("bundle_double").bundle(uris).content)

    assert len(foreign) == 8
    assert len(double) == 9


@pytest.mark.parametrize("form", ["absolute", "parent", "link", "hardlink", "device", "fifo", "nul", "huge"])
def test_evil_member(start, uris, form):
    """A hostile member is there, and tarfile's data filter refuses all but the device's name and the size."""
    body = start(f"bundle_evil:{form}").bundle(uris).content
    found = list(heads(body))
    refused = [info.name for info in found if is_refused(info)]
    harmless = {"absolute", "nul", "huge"}  # the filter strips the slash, and knows neither NUL nor size

    assert (0 if form in harmless else 1) == len(refused)
    assert {
        "absolute": any("psfharvest-evil" in info.name for info in found),
        "nul": any("NUL" in info.name for info in found),
        "huge": any(info.size == 10**12 for info in found),
    }.get(form, True)
