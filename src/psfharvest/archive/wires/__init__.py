"""Transports: libcurl or an httpx client, behind one protocol."""
