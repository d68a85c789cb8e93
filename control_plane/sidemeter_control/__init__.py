"""Sidemeter's control plane: meters, plans, prices and limits; live cost and quota over GraphQL."""
