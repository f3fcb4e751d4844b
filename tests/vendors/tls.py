"""A certificate for localhost, valid for a hundred years and trusted by nobody but tests."""

import ssl
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUZIuMyE84udTIO/LTMHwiHchYWB4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMDE0MDkwMFoYDzIxMjYxMDI3
MTQwOTAwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQGDGOGGura1t5Xq5MD+H7xDoin6SOyRo8QMifuovqupMHpdDYiUxv4
WCdZJT2wdtNyyo50KNnXYKOZ+QKu3CZko28wbTAdBgNVHQ4EFgQUSXdpUIxlcOiy
upzWfKWe7T8DkfcwHwYDVR0jBBgwFoAUSXdpUIxlcOiyupzWfKWe7T8DkfcwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAJJ72bVGwqgb5WsLJWlfBspbMuIbHReZeJoRJfTq6PFEAiA0
jVXwsmGZuKQbNLPNkpUsGImsfPcYkalrvK9+rLXZaw==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgyno1CbgS6NYyfwRz
CC59b1sd+N5WVLoQl69nv89nR4ehRANCAAQGDGOGGura1t5Xq5MD+H7xDoin6SOy
Ro8QMifuovqupMHpdDYiUxv4WCdZJT2wdtNyyo50KNnXYKOZ+QKu3CZk
-----END PRIVATE KEY-----
"""


def server_side(folder: Path) -> ssl.SSLContext:
    """For a server; leaves ``ca.pem`` in the folder, which makes its clients trust it."""
    (folder / "ca.pem").write_text(CERTIFICATE)
    (folder / "key.pem").write_text(KEY)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context
