"""Grafana dashboards made from the product's metric names; ``python -m deploy.dashboards`` writes them."""
