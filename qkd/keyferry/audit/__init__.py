"""What happened to every key: chained records, their verification offline, and their export."""
