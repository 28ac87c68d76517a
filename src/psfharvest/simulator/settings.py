"""
What the simulated archive is like: one frozen value, read by everything and changed by nothing.

Whatever is not known of the real archive is a field here, so that a client can be run against
every answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from psfharvest.simulator.oddities.table import check

ErrorForm = Literal["text", "html"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The size, speed and manners of a simulated archive."""

    sources: int = 20_000
    """Synthetic sources over the three databases, beside the real rows, which are always there."""
    seed: int = 0
    """Decides the synthetic catalogue; cutouts depend on their URI and row alone."""
    static: bool = False
    """Serve one pre-rendered body per size, whatever was asked, as fast as can be: for measuring clients."""

    latency_s: float = 0.0
    """Delay before every answer; it limits nobody's concurrency."""
    latency_jitter: float = 0.0
    """Fraction of ``latency_s`` by which a delay may differ, up or down, decided by the request's number."""
    bundle_latency_s_per_cutout: float = 0.0
    """Time that a bundle takes per member; 0.03 is the real archive's 30 s per 1,000."""

    # Queries
    default_page_rows: int = 1_000
    """Rows in an answer to a request that names no page."""
    max_answer_rows: int = 50_000
    """Rows that one answer holds at most, whatever page size was asked."""
    max_result_rows: int = 500_000
    """A query that matches more rows than this has its connection reset."""
    executing_polls: int = 0
    """How many times a query answers EXECUTING before it is COMPLETE."""
    row_order: Literal["call", "job", "id"] = "call"
    """Rows are shuffled anew for each call, once per job (same cachebreaker), or come sorted by id."""
    ranges_inclusive: bool = True
    """Whether both ends of a range belong to it."""
    lone_bound: Literal["error", "open", "ignore"] = "error"
    """What a range with one end missing means: an ERROR answer, an open range, or no criterion at all."""
    chip_json: Literal["string", "number"] = "string"
    """The JSON type of ``chip`` and ``mtflag`` values; the field's declared type is string in both cases."""

    # Geometry of raw frames, in pixels (of the archive only those of UVIS chip 2 are known)
    raw_rows_below_chip1: int = 19
    """Rows before the first light-sensitive one in a raw UVIS chip 1 frame."""
    raw_border_ir: int = 5
    """Reference pixels on each side of a raw IR frame."""
    raw_border_wfpc2: int = 0
    """Pixels on each side of a raw WFPC2 frame that the calibrated one lacks."""

    # Cutouts
    naming_cards: bool = True
    """Whether headers hold ROOTNAME and EXPNAME."""
    zero_is_nan: bool = True
    """Whether exactly-zero pixels leave as NaN, as fitscut's default badvalue would have it."""
    dead_pixels: float = 0.0
    """Fraction of cutouts, chosen by URI, that have one dead pixel of exactly zero."""
    no_flc: float = 0.0
    """Fraction of exposures, chosen by rootname, that have no flc product."""
    max_size: int = 4_096
    """The longest side, in pixels, that a cutout may have."""
    products: Mapping[str, bytes] = field(default_factory=dict)
    """Further whole files of the archive: dataURI to content."""

    # Errors for cutouts
    missing_status: int = 404
    """Status for an exposure that does not exist, on every download path."""
    no_overlap_status: int = 200
    """Status where fitscut finds that a cutout lies off the detector."""
    bad_request_status: int = 200
    """Status where fitscut refuses its parameters."""
    error_form: ErrorForm = "text"
    """Form of an error on ``Download/file``; ``fitscut.cgi`` says HTML unless asked for TextErrors."""

    # Headers of Download/file
    content_length: bool = False
    """Whether a cutout comes with its length; the real archive makes them on the fly and sends none."""
    content_type: str = "application/octet-stream"
    etag: bool = False
    accept_ranges: bool = False
    content_disposition: bool = False
    content_encoding: Literal["identity", "gzip"] = "identity"
    """``gzip`` compresses bodies for clients that accept it."""

    # Bundles
    bundle_level: int = 1
    """zlib level of a bundle's stream, 0 to 9; 0 stores."""
    bundle_manifest: Literal["last", "first", "none"] = "last"
    """Where MANIFEST.HTML stands among the members."""
    bundle_failed: Literal["absent", "empty", "error"] = "absent"
    """What a failed cutout is in the tar: nothing, a member of no bytes, or one that holds the error."""
    bundle_failed_word: str = "ERROR"
    """The manifest's Status of a failed cutout."""
    bundle_same_name: Literal["both", "first"] = "both"
    """Two URIs with one file name: two members of that name, or the first only."""
    max_bundle_uris: int | None = None
    """A bundle of more URIs than this is refused."""
    max_bundle_status: int = 413

    oddities: tuple[str, ...] = ()
    """How the archive differs from what is expected of it: names from `psfharvest.simulator.ODDITIES`."""

    # Connections and the record
    keep_alive_s: int = 75
    """Idle seconds after which a connection is closed."""
    record_size: int = 200_000
    """Requests that are remembered one by one; counters are exact beyond it."""
    record_bytes: int = 64_000_000
    """Bytes of request text that are remembered at most."""

    def __post_init__(self) -> None:
        if not 0 <= self.sources <= 10_000_000:
            raise ValueError(f"sources must lie in 0..10000000, not {self.sources}")
        if not 0 <= self.bundle_level <= 9:
            raise ValueError(f"bundle_level must lie in 0..9, not {self.bundle_level}")
        for name in ("latency_s", "bundle_latency_s_per_cutout"):
            if not 0 <= getattr(self, name) <= 3600:
                raise ValueError(f"{name} must lie in 0..3600 seconds, not {getattr(self, name)}")
        check(self.oddities)
        if not 0 <= self.latency_jitter <= 1:
            raise ValueError(f"latency_jitter must lie in 0..1, not {self.latency_jitter}")
