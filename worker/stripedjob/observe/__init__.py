"""What a process shows of itself: log lines, liveness, readiness and metrics over HTTP."""
