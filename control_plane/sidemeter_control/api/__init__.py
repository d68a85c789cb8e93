"""The doors: GraphQL for people and products, plain HTTP for agents and events."""
