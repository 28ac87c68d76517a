"""Pictures of cutouts: `contact_sheet` and the `Panel` values that it takes, under their public names."""

from psfharvest.show.plot import Panel, contact_sheet

__all__ = ["Panel", "contact_sheet"]
