"""A real local HTTP server that speaks the providers' wire formats, for the demo, the tests and the benches.

    with Simulator(latency=0.2, seed=7) as simulator:
        client = OpenAI(base_url=simulator.url + "/v1", api_key="none", max_retries=0)

Importing this package imports no Pillow; it loads when the first image is rendered.
"""

from cachelayer.simulator.journal import Recorded
from cachelayer.simulator.server import Simulator

__all__ = ["Recorded", "Simulator"]
