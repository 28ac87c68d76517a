"""What moves bytes: libcurl or an httpx client, behind one port."""
