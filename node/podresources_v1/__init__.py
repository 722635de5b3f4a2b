"""Generated from node/podresources_v1/api.proto by ``python -m node.podresources_regenerate``."""
