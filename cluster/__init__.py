"""What the API server says: client, reflectors, policy from ConfigMaps, leader lease, events.

``policy``, ``wire`` and ``quantity`` are pure; the rest is the only place that talks to the API server.
"""
