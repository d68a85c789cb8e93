"""Credits: given, burned down before anything is owed, and what stands at any instant."""
