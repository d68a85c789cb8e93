"""What is allowed: entitlements, quotas, and what agents learn of them."""
