"""What could grow with history, size or numbers, each beside the small case; see bench.py."""
