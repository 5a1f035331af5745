"""What teaches a network to tell identities apart, as sums and counts."""
