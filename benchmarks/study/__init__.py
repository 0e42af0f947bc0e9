"""What is known of critical points, asked of the service: the lecture's figure, and theorems and findings at scale."""
