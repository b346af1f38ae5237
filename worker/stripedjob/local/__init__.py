"""StripedJob on one machine: embedded engines and, on top of them, workers as plain processes."""
