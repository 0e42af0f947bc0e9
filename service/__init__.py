"""HTTP in, rows and messages out: the API and the dashboard. Never imports torch."""
