"""Which models and deployments can serve a call, and in what order."""
