"""What follows from observed responses: retries, concurrency limit, outages, transport."""
