"""What operators see of a process: log lines and traces. It knows nothing of jobs, tables or requests."""
