"""cachelayer: a content-addressable cache for generative-image APIs, and a ledger of what it saved."""

__version__ = "0.1.0"
