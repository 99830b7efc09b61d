"""cachelayer: a content-addressable cache for generative-image APIs, and a ledger of what it saved.

import cachelayer
client = cachelayer.wrap(OpenAI())
"""

from cachelayer.cache import Cache, wrap
from cachelayer.core.errors import CachelayerError, ConfigError
from cachelayer.core.model import Outcome, Request
from cachelayer.questions import Difference, Explanation

__version__ = "0.1.0"

__all__ = [
    "Cache",
    "CachelayerError",
    "ConfigError",
    "Difference",
    "Explanation",
    "Outcome",
    "Request",
    "__version__",
    "wrap",
]
