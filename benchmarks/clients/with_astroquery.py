"""One answer of a catalogue through astroquery's own portal client, written as CSV."""

import sys

from astroquery.mast.discovery_portal import PortalAPI

ROWS_MAX = 50_000
"""What one answer of the archive holds at most."""

if __name__ == "__main__":
    url, out = sys.argv[1:]
    portal = PortalAPI()
    portal.MAST_REQUEST_URL = f"{url}/api/v0/invoke"
    portal.COLUMNS_CONFIG_URL = f"{url}/portal/Mashup/Mashup.asmx/columnsconfig"
    service = "Mast.Catalogs.Filtered.Wfc3Psf.Uvis"
    table = portal.service_request(service, {"columns": "*", "filters": []}, pagesize=ROWS_MAX, page=1)
    table.sort("id")
    table.write(out, format="ascii.csv")
