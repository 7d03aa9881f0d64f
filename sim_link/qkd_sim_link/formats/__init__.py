"""Files of time tags: readers and writers, each of one format."""
