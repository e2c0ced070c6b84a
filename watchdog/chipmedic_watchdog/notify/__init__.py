"""Telling people: an outbox in the store, texts in their language, channels that lead to them."""
