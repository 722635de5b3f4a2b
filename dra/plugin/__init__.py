"""The kubelet's plugin protocols: registration, DRAPlugin v1 and v1beta1, health; servers on unix sockets.

Knows nothing of GPUs. The folders ``*_v1*`` hold generated stubs (``regenerate``).
"""
