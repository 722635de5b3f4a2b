"""What is measured and what is exposed: Prometheus, model servers, DCGM, carbon intensity, our own metrics.

Knows nothing of the API server; may import ``dra`` only.
"""
