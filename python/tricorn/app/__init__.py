"""Applications: what the server runs, and how it is configured."""
