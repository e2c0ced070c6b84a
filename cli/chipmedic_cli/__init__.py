"""The command `chipmedic`."""
