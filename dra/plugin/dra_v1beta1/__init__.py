"""Generated from dra/plugin/dra_v1beta1/api.proto by ``python -m dra.plugin.regenerate``."""
