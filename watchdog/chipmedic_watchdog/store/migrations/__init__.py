"""The steps that bring an older store to the state of `schema.py`."""
