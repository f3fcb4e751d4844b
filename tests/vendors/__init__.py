"""Vendors on loopback that speak the real wire formats and fail as told, so that the real SDKs run in the tests."""
