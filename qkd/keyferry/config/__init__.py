"""The site file: strict reading, one line for what is wrong."""
