"""Prompts and reference images of `cachelayer demo`; SOURCES.md says whose they are."""
