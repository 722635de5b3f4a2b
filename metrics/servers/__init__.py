"""One file a model server: which of its metrics mean running, waiting and latency."""
