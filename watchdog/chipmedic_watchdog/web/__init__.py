"""The HTTP side: JSON interface, metrics, health and a page for people."""
