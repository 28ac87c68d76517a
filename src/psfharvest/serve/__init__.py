"""
A page to watch harvests and browse their stars, and the HTTP API behind it; needs the extra ``service``.

It reads only. `create_app` gives an ASGI application, to be mounted in another one; ``psfharvest serve`` runs it.
"""

from psfharvest.serve.app import create_app

__all__ = ["create_app"]
