"""The pages: what every customer costs now, moving by itself. Everything is served from the package."""
