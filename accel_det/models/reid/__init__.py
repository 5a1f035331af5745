"""Networks that tell identities apart, and their losses."""
