"""What can be made of a harvest's stars: parts, cones, stacks and effective PSFs; base of `Harvest`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from photutils.psf import EPSFStars, GriddedPSFModel, ImagePSF

    from psfharvest.store.read.harvest import Harvest


class Analysis:
    """The methods of `Harvest` that work on pixels and places of many stars; imports wait for the first call."""

    def cone(self, ra: Any, dec: Any, radius: Any) -> Harvest:
        """
        Return the stars within an angle of a place on the sky, as a harvest of its own.

        Places are those of ``table(sky=True)``. The archive's catalogues have no sky positions, as far as we know,
        so that a query cannot ask for them: harvest an exposure (``rootname=``), then look here.

        Parameters
        ----------
        ra, dec
            ICRS, in degrees, or astropy quantities.
        radius
            In degrees, or a quantity.

        Raises
        ------
        BadInput
            When they are no angles.
        LocalError
            When a cutout is not where the manifest says.
        """
        from psfharvest.store.read import cone  # noqa: PLC0415 - needs a harvest itself

        return self._harvest.view(cone.numbers(self._harvest, ra, dec, radius))

    def groups(self, *columns: str, **bins: Any) -> Iterator[Harvest]:
        """
        Yield the done cutouts in parts, each a harvest of its own; `Harvest.group` says what its stars share.

        Parameters
        ----------
        *columns
            A part for each value, null included: any column of `table`; ``filter`` is ``filter_1`` on WFPC2.
        **bins
            A part for each range of a column: the number of equal ranges, or their edges; the last includes its
            end, and what lies outside all is a part with None. ``region=n`` or ``region=(columns, rows)`` are
            cells of the detector, by ``psf_x_center`` and ``psf_y_center``; of one chip on WFPC2.

        Raises
        ------
        BadInput, BadQuery
            When a column is not there, or ranges are none.

        Examples
        --------
        >>> for part in stars.groups("filter", focus=[-10, 0, 10], region=(2, 2)):
        ...     part.group, len(part)
        ({'filter': 'F606W', 'focus': (-10.0, 0.0), 'region': (0, 1)}, 57)
        """
        from psfharvest.store.read import groups  # noqa: PLC0415 - needs a harvest itself

        for part in groups.groups(self._harvest, columns, bins):
            found = self._harvest[part.positions]
            found.group = {**self._harvest.group, **part.key}
            yield found

    def stack(
        self,
        size: int = 51,
        *,
        out: str | Path | None = None,
        background: str | None = None,
        normalise: str | None = None,
        recentre: str | None = None,
        combine: str | None = None,
    ) -> NDArray[float32]:
        """
        Return the pixels of all done cutouts of one size as one array, or one image of them all.

        Parameters
        ----------
        size
            Their side in pixels: unsaturated stars have 51 by default, saturated ones 101.
        out
            A ``.npy`` file to write them to; the array then stands in that file.
        background
            Taken away from each image first: ``border`` (the median of its outermost 4 pixels), ``catalogue`` (the
            column ``sky``), or ``mmm`` (photutils' ``MMMBackground``).
        normalise
            What each image is divided by: ``flux`` (the catalogue's, where it is in the pixels' unit), ``sum`` or
            ``peak`` of its pixels.
        recentre
            Move each star onto the middle pixel, by cubic splines; pixels next to NaN or the edge become NaN. The
            star's place is that of the ``catalogue``, or photutils' quadratic ``centroid``.
        combine
            Return one image instead: the ``median``, the ``mean`` or the mean of what a ``sigma_clip`` of 3 leaves
            (astropy), NaN left out.

        Returns
        -------
        ndarray of shape (n, size, size), or (size, size) with `combine`
            Native float32, in the order of asking: that of ``select(size_px=size, state="done").table()``. Above
            `psfharvest.store.read.stack.IN_MEMORY_BYTES` (512 MB), and with `out`, it is memory-mapped: without
            `out` from a nameless file in the system's temporary folder, which goes with the array.

        Raises
        ------
        BadInput
            When a word is not allowed, a star lacks what it needs, or all cutouts are of other sizes.
        LocalError
            When a cutout is not where the manifest says, or the file cannot be written.
        """
        from psfharvest.store.read import stack  # noqa: PLC0415 - needs a harvest itself

        stack.check_word("combine", combine, stack.COMBINATIONS)
        treatment = stack.Treatment(background, normalise, recentre)
        chosen = None if treatment == stack.Treatment() else treatment
        images = stack.stack(self._harvest, size, out, treatment=chosen)
        return images if combine is None else stack.combined(images, combine)

    def epsf_stars(
        self,
        size: int = 51,
        *,
        subtract_sky: bool = True,
        saturation: float | None = None,
        min_good: float = 0.5,
    ) -> EPSFStars:
        """
        Return the done cutouts of one size as photutils' ``EPSFStars``, ready for its ``EPSFBuilder``.

        Each star has its sub-pixel centre from the catalogue, and its flux where that is in the pixels' unit
        (calibrated WFC3 cutouts); elsewhere photutils estimates it. Weights are those of the noise model,
        ``1 / Cutout.sigma``; pixels that are NaN or saturated have weight 0.

        Parameters
        ----------
        size
            Their side in pixels.
        subtract_sky
            Whether to take away each cutout's own sky, the median of its outermost 4 pixels: the builder expects
            stars without sky.
        saturation
            Pixels at or above it are taken for saturated. Without it, the catalogue is asked: a star with
            ``n_sat_pixels`` loses that many of its brightest pixels, and all that are as bright.
        min_good
            Stars are left out when a smaller part than this of the 3 x 3 pixels at their centre can be used; 0
            keeps all that have any usable pixel, saturated ones included.

        Raises
        ------
        BadInput
            When photutils is not installed, or `min_good` leaves no star.
        """
        from psfharvest.store.read.stars import epsf_stars  # noqa: PLC0415 - needs an extra

        chosen = self._harvest.select(size_px=size)
        return epsf_stars(chosen, subtract_sky=subtract_sky, saturation=saturation, min_good=min_good)

    def epsf(
        self, oversampling: int = 4, *, size: int = 51, region: Any = None, min_good: float = 0.5
    ) -> ImagePSF | GriddedPSFModel:
        """
        Return an effective PSF of the done cutouts of one size, made by photutils' ``EPSFBuilder``.

        It is on the catalogue's flux scale where that is in the pixels' unit: a star is the model times its
        ``psf_flux``; elsewhere the model's sum is 1. For parts of a harvest:
        ``[part.epsf() for part in stars.groups("filter")]``.

        Parameters
        ----------
        oversampling
            Points for each pixel, along both axes.
        size
            The cutouts' side in pixels.
        region
            A number of cells or ``(columns, rows)``: an ePSF for each cell of the detector, as a
            ``GriddedPSFModel`` over the full frame's pixels, 0-based.
        min_good
            As in `epsf_stars`.

        Returns
        -------
        ImagePSF or GriddedPSFModel
            Its ``meta`` has ``n_stars``, ``converged``, ``iterations`` and ``flux_scale``.

        Raises
        ------
        BadInput
            When photutils is not installed, there are no stars, or a cell has none.
        """
        from psfharvest.store.read import epsf  # noqa: PLC0415 - needs an extra

        chosen = self._harvest.select(size_px=size)
        if region is None:
            return epsf.epsf(chosen, oversampling, min_good=min_good)
        return epsf.gridded(chosen, oversampling, region, min_good=min_good)

    @property
    def _harvest(self) -> Harvest:
        return cast("Harvest", self)
