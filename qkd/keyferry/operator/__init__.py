"""What an operator may see and order at one site: over a private socket, or in the store itself."""
