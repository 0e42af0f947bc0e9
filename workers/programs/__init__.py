"""Foreign loss programs: a torch.export archive read as data, and run by an interpreter of our own."""
