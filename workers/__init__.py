"""A job id in, a report out: Celery, supervision of a runner process, building the objective safely."""
