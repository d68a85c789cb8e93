"""What was used: events come in, are counted once, and add up to meters."""
