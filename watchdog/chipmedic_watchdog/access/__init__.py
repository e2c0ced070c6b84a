"""Who may do what: operators with tokens and roles, nodes with certificates of our own."""
