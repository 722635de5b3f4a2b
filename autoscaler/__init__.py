"""How many replicas run: signals in, a decision with its reasons out, written to ``/scale``."""
