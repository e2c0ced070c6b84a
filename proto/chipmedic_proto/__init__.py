"""The wire contract `chipmedic.v1` and its generated code."""
