"""The design of our LDPC codes, reproducible from seeds. The product never imports it."""
