"""Words, questions and answers of the service: pure values, no I/O, no tensors."""
