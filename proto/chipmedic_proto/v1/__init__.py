"""Generated from chipmedic.proto by `make proto`; do not edit."""
