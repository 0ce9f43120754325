"""From the recorded requests and server samples to metrics, intervals and tables."""
