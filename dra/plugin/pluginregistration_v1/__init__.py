"""Generated from dra/plugin/pluginregistration_v1/api.proto by ``python -m dra.plugin.regenerate``."""
