"""Makes the reference pages from the code, and the site from the pages; see `__main__`."""
