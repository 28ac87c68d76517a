"""
The oddities by name: what each changes, and which exclude each other.

Two oddities of one group cannot be at once. All are a function of the request, so that an answer stays the same.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Oddity:
    """What an oddity is about, and what it does."""

    group: str
    text: str


ODDITIES: Final[dict[str, Oddity]] = {
    # queries: counts
    "count_selected": Oddity("count", "a count's row has the column _selected_, too"),
    "count_text": Oddity("count", "a count is a text"),
    "count_decimal": Oddity("count", "a count is 6.0 instead of 6"),
    "count_renamed": Oddity("count", "a count is called COUNT_BIG(*)"),
    "count_two_columns": Oddity("count", "a count's row has a column page, too"),
    "no_count": Oddity("count", "COUNT_BIG(*) is an ERROR"),
    # queries: frame
    "lower_status": Oddity("status", "the status is complete instead of COMPLETE"),
    "no_fields": Oddity("fields", "rows come without fields"),
    "sql_types": Oddity("fields", "fields have the types bigint, real, nvarchar"),
    "rows_selected": Oddity("selected", "rows have the column _selected_"),
    "no_star": Oddity("star", "the columns * are an ERROR"),
    "new_column": Oddity("new", "rows have a column that nobody knows"),
    # queries: sizes, ranges, ids
    "large_500": Oddity("size", "an answer of more than 100 rows is a 500"),
    "large_timeout": Oddity("size", "an answer of more than 100 rows is an ERROR: Timeout Expired"),
    "row_cap": Oddity("size", "no answer has more than 150 rows, and none says so"),
    "exclusive_ends": Oddity("ends", "both ends of a range are left out"),
    "exclusive_low": Oddity("ends", "the lower end of a range is left out"),
    "exclusive_high": Oddity("ends", "the upper end of a range is left out"),
    "no_id_criterion": Oddity("id", "id is an invalid column name in a criterion"),
    "page_repeats": Oddity("id", "id is no criterion, and each page begins with the last row of the one before"),
    "id_twice": Oddity("id", "some ids belong to two sources"),
    "row_twice": Oddity("id", "some rows come twice"),
    # rows
    "chip_null": Oddity("chip", "chip is null for IR"),
    "chip_ir": Oddity("chip", "chip is 'IR' for IR"),
    "chip_named": Oddity("chip", "chip is 'UVIS1' instead of '1'"),
    "chip_decimal": Oddity("chip", "chip is '1.0' instead of '1'"),
    "chip_number": Oddity("chip", "chip is 1 instead of '1'"),
    "no_chip_column": Oddity("chip", "IR has no column chip"),
    "qfit_null": Oddity("qfit", "qfit is null in some rows"),
    "qfit_nan": Oddity("qfit", "qfit is NaN in some rows"),
    "filter_null": Oddity("filter", "the filter is null in some rows"),
    "filter_blank": Oddity("filter", "the filter is blank in some rows"),
    "padded_texts": Oddity("padding", "texts are padded with blanks"),
    "subarray_null": Oddity("subarray", "subarray is null in some rows"),
    "no_subarray_column": Oddity("subarray", "there is no column subarray"),
    "null_keys": Oddity("keys", "x_cal and x_raw are null in one row of twenty"),
    # bodies of cutouts
    "degenerate_axes": Oddity("body", "images have the axes 51, 51, 1"),
    "nul_padding": Oddity("body", "headers end in NUL"),
    "unpadded": Oddity("body", "files end with the last pixel"),
    "extra_blocks": Oddity("body", "a block of zeros follows each file"),
    "trailing_newline": Oddity("body", "a newline follows each file"),
    "trailing_remark": Oddity("body", "an HTML comment follows each file"),
    "tile_compressed": Oddity("body", "images are tile-compressed (fpack)"),
    "gzip_body": Oddity("body", "files are compressed by gzip, and no header says so"),
    "extension_image": Oddity("body", "the image is in an extension behind an empty primary unit"),
    "edge_crop": Oddity("edge", "images end where the detector does"),
    "name_suffix": Oddity("name", "ROOTNAME and EXPNAME end in the suffix"),
    "name_association": Oddity("name", "EXPNAME is that of an association"),
    "name_last_letter": Oddity("name", "EXPNAME ends in another letter"),
    "no_names": Oddity("name", "headers have neither ROOTNAME nor EXPNAME"),
    # how single cutouts travel
    "redirect_host": Oddity("redirect", "a cutout is redirected to another host"),
    "redirect_cookie": Oddity("redirect", "a cutout is redirected to itself until a cookie comes back"),
    "redirect_http": Oddity("redirect", "a cutout is redirected to plain http at the same port"),
    "content_gzip": Oddity("transport", "cutouts are gzip-encoded, though that was not asked for"),
    "status_202": Oddity("transport", "a whole cutout has the status 202"),
    "status_206": Oddity("transport", "a whole cutout has the status 206"),
    "http_1_0": Oddity("transport", "cutouts come by HTTP/1.0, without a length"),
    # exposures without a product: one of eight
    "missing_500": Oddity("missing", "a product that does not exist is a 500"),
    "missing_400": Oddity("missing", "a product that does not exist is a 400"),
    "missing_html": Oddity("missing", "a product that does not exist is a web page with status 200"),
    "missing_text": Oddity("missing", "a product that does not exist is a text with status 200"),
    "missing_json": Oddity("missing", "a product that does not exist is JSON with status 200"),
    "missing_empty": Oddity("missing", "a product that does not exist is an empty answer"),
    "missing_202": Oddity("missing", "a product that does not exist is an empty answer with status 202"),
    "missing_204": Oddity("missing", "a product that does not exist is an empty answer with status 204"),
    # bundles
    "bundle_deep": Oddity("bundle", "cutouts stand two folders deeper in a bundle"),
    "bundle_flat": Oddity("bundle", "a bundle has no folder"),
    "bundle_dotted": Oddity("bundle", "names in a bundle begin with ./"),
    "bundle_renamed": Oddity("bundle", "names in a bundle lack _cutout"),
    "bundle_lower": Oddity("bundle", "names in a bundle are in lower case"),
    "bundle_numbered": Oddity("bundle", "names in a bundle are numbered: _cutout(1).fits"),
    "bundle_plain": Oddity("bundle_form", "a bundle is a plain tar"),
    "bundle_no_trailer": Oddity("bundle_form", "a bundle's gzip stream lacks its trailer"),
    "bundle_no_end": Oddity("bundle_form", "a bundle's tar lacks its end blocks"),
    "bundle_html": Oddity("bundle_form", "a bundle is a web page with status 200"),
    "bundle_500": Oddity("bundle_form", "a bundle is a 500"),
    "bundle_zip": Oddity("bundle_form", "a bundle is a zip file"),
    "bundle_empty": Oddity("bundle_form", "a bundle is an empty tar"),
    "bundle_redirect": Oddity("bundle_form", "a bundle is a redirect to where nothing is"),
}


def check(names: tuple[str, ...]) -> None:
    """
    Make sure that oddities can be at once.

    Raises
    ------
    ValueError
        For an unknown name, or two of one group.
    """
    groups: dict[str, str] = {}
    for name in names:
        if name not in ODDITIES:
            raise ValueError(f"unknown oddity {name!r}: one of {', '.join(ODDITIES)}")
        other = groups.setdefault(ODDITIES[name].group, name)
        if other != name:
            raise ValueError(f"the oddities {other} and {name} exclude each other")
