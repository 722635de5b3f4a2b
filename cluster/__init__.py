"""What the API server says: client, reflectors, policy from ConfigMaps, leader lease, events.

Pure: ``wire``, ``quantity``, ``backoff``, ``event_reasons``, ``autoscaling_policy`` and ``policy*`` but for
``policy_source``. The rest is the only place that talks to the API server, through ``client`` alone.
"""
