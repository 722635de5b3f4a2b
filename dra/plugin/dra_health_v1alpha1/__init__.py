"""Generated from dra/plugin/dra_health_v1alpha1/api.proto by ``python -m dra.plugin.regenerate``."""
