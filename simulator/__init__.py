"""The product's own decisions replayed over traces, beside baselines and bounds."""
