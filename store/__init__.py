"""What outlives a process: SQL tables and their queries, blobs named by hash, and the doorbell of the workers."""
