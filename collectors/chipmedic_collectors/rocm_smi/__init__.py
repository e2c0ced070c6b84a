"""What rocm-smi prints, in AMD's own versions and in the forks that Hygon ships under two names."""
