"""Thin skins: one file per client library. Only here does the code know which client it serves."""
