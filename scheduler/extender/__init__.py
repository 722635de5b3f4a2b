"""The scheduler-extender webhook (KEP-1819) as a FastAPI application."""
