"""What other rules would have made of the stored past; it reads the store and writes nothing."""
