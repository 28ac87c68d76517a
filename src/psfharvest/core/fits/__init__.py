"""Cutouts as data: dataURI grammar, keys, FITS structure, pixels."""
