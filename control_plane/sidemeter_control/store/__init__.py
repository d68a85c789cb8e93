"""The only SQL and the only database drivers: tables, one module per noun, migrations."""
