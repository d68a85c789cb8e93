"""Who may do what: keys, portal links, sessions, and the chain that shows a changed audit log."""
