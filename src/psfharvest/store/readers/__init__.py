"""Reading stored bytes back, by location."""
